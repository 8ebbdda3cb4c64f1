"""The global model on content files: its versions, the door that updates come through, and the step that makes the next.

Knows contents and schemas; what to combine and how is the owner's answer, in parameters that are read block by block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from msgspec import UNSET
from msgspec.structs import replace

from umbel.dialogue import Parameters
from umbel.door import Door
from umbel.errors import ContentDamaged, StoreError, StrategyError
from umbel.fold import FACTS, Memory, Part, Sink, first_of
from umbel.params import NDArrays, Params
from umbel.reports import Room
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Kind, Lost, Task
from umbel.runtime.contents import BLOCK, Content, Contents, as_parameters, write_content
from umbel.runtime.failpoints import failpoint
from umbel.runtime.largest import largest_update
from umbel.runtime.retry import retry
from umbel.strategies.algorithm import Receives
from umbel.transforms import Chain, Totals, identity, reader_of, source_of
from umbel.update import MODEL, Layout
from umbel.wire import Schema, Source, TensorSpec, encode_header, know

__all__ = ["GlobalModel", "describe_best", "path_of"]


class GlobalModel:
    """Versions 0, 1, … of the model. Version n is what round n made; a round that made nothing has none.

    `receives` is what the strategy has declared to receive. `slots` are the names of what it remembers: each version has its
    own, as contents beside it. `transforms` are what updates go through; their facts are such a slot. `parts` are what
    updates have beside the model's values: clients are sent the slot of a part's name, and no other.
    """

    def __init__(
        self,
        contents: Contents,
        *,
        receives: Receives | None,
        max_examples: int,
        max_bytes: int | None,
        slots: Sequence[str] = (),
        transforms: Chain = identity(),  # noqa: B008  # a value
        parts: Mapping[str, Part] = MappingProxyType({}),
        room: Room = Room(),  # noqa: B008  # a value
    ) -> None:
        self.contents = contents
        self._transforms = transforms
        self._parts = parts
        self._beside: dict[str, Schema] = {}  # the schemas of the parts, once there is a version
        self._facts: tuple[int, dict[str, dict[str, float]]] | None = None
        self._receives = receives
        self._door: tuple[tuple[str, int | None, float | None], Door] | None = None
        self._max_examples = max_examples
        self._max_bytes = max_bytes
        self._room = room
        self._slots = tuple(slots)
        self._open: dict[int, Content] = {}
        self._spent: list[str] = []
        self._kept: frozenset[int] = frozenset()  # versions that have files

    @staticmethod
    def name(version: int) -> str:
        return f"model-{version:06}"

    @classmethod
    def slot_name(cls, version: int, slot: str) -> str:
        return f"{cls.name(version)}+{slot}"

    def names(self, version: int) -> list[str]:
        """The names of all that a version may have: its content, and one for each slot."""
        return [self.name(version), *(self.slot_name(version, slot) for slot in self._slots)]

    @contextmanager
    def step(self, version: int, following: int) -> Iterator[Memory]:
        """Lends the memory of one step: it reads the slots of `version`, and writes those of the `following` one.

        It ends with the step: parameters that were not read until then cannot be combined later.
        """
        under_way = True

        def read(slot: str) -> tuple[Schema, Source] | None:
            content = self._slot(version, slot)
            return None if content is None else (content.schema, content.source)

        def write(slot: str, schema: Schema) -> Sink:
            if not under_way:  # the slots of that name are those of a version that is in use, or of none
                raise StrategyError(
                    f"the parameters that aggregate_fit() combined in round {following} were neither read nor returned "
                    "there, and the optimizer's memory has gone on; read them inside aggregate_fit()"
                )
            writer = self.contents.create(self.slot_name(following, slot))
            writer.write(encode_header(schema))
            return writer

        try:
            yield Memory(read, write)
        finally:
            under_way = False

    def carry(self, version: int, following: int) -> None:
        """Copies to the following version the slots that the step did not write: a strategy may go round its own step."""
        for slot in self._slots:
            content = self._slot(version, slot)
            if content is not None and self._slot(following, slot) is None:
                blocks = content.blocks(content.data_begin)
                write_content(self.contents, self.slot_name(following, slot), content.schema, blocks)

    def forget(self, version: int) -> None:
        """Removes a version that the step has given up, and its slots."""
        for name in self.names(version):
            self.contents.remove(name)

    def _slot(self, version: int, slot: str) -> Content | None:
        try:
            return self.contents.open(self.slot_name(version, slot))
        except ContentDamaged:
            raise
        except StoreError:
            return None

    def at(self, version: int) -> Content:
        """The content of this version."""
        if version not in self._open:
            self._open[version] = self.contents.open(self.name(version))
        return self._open[version]

    def parameters(self, version: int) -> Parameters:
        return as_parameters(self.at(version))

    def arrays(self, version: int) -> NDArrays:
        """A copy of this version in memory."""
        content = self.at(version)
        return Params.from_bytes(bytearray(content.read(0, content.size))).arrays()

    def content_for(self, task: Task) -> str | None:
        """The name of the content that travels with a task."""
        return task.content or (None if task.version is None else self.name(task.version))

    def given(self, task: Task) -> dict[str, str]:
        """The names of the contents that travel with a task, by part."""
        name = self.content_for(task)
        parts = self._parts if task.is_update and task.version is not None else ()
        return {} if name is None else {MODEL: name, **{part: self.slot_name(task.version or 0, part) for part in parts}}

    def _schemas(self, version: int) -> dict[str, Schema]:
        """The schemas of the parts beside the model: those of their slots, which no step changes."""
        if len(self._beside) < len(self._parts):
            self._beside = {part: know(self.contents.open(self.slot_name(version, part)).schema) for part in self._parts}
        return self._beside

    def _begin(self, version: int) -> None:
        """Writes the slots with which the parts beside the model begin, where this is the first version."""
        for part, value in self._parts.items() if version == 0 else ():
            first = first_of(value, self.at(version).schema)
            write_content(self.contents, self.slot_name(version, part), first.schema, [first.buffer.data])

    def facts(self, version: int) -> dict[str, dict[str, float]]:
        """The numbers that the transforms of updates from this version go by."""
        if not self._transforms.links:
            return {}
        if self._facts is None or self._facts[0] != version:
            content = self._slot(version, FACTS) if self._transforms.facts else None
            written = None if content is None else content.read(content.data_begin, content.schema.nbytes)
            found = {} if written is None else json.loads(written)
            self._facts = version, {name: {**first, **found.get(name, {})} for name, first in self._transforms.facts.items()}
        return self._facts[1]

    def advance(self, version: int, following: int, totals: Totals) -> None:
        """Writes the facts of the version that follows this one."""
        if self._transforms.links and self._transforms.facts:
            made = self._transforms.advance(self.facts(version), totals)
            self._facts = None
            data = json.dumps(made).encode()
            schema = Schema((TensorSpec(FACTS, "U8", (len(data),)),))
            write_content(self.contents, self.slot_name(following, FACTS), schema, [memoryview(data)])

    def update(
        self, task: Task, name: str
    ) -> tuple[tuple[Schema, Callable[[], Iterator[memoryview]], Source], Mapping[str, tuple[Schema, Source]]]:
        """The update that a task's client sent as the content of this name: the values that it stands for, as
        `Parameters.received` takes them, and what it has beside them, by part.
        """
        content = self.contents.open(name)
        if not (self._transforms.links or self._parts) or task.version is None:
            return (content.schema, lambda: content.blocks(content.data_begin), content.source), {}
        base = self.at(task.version) if task.content is None else self.contents.open(task.content)
        schema, beside = know(base.schema), self._schemas(task.version)
        layout = self._transforms.layouts(schema, beside)[-1]
        reader = self._transforms.decode(
            reader_of(layout, content.schema, content.source),
            reader_of(Layout.of(schema), schema, base.source),
            self.facts(task.version),
            beside,
        )
        ours = schema if self._transforms.links else layout.part(MODEL, content.schema)
        source = source_of(reader, MODEL, ours)
        parts = {part: (each, source_of(reader, part, each)) for part, each in beside.items()}
        return (ours, lambda: _blocks(source, ours.nbytes), source), parts

    def door(self, task: Task) -> Door:
        """What a reply to this task must be."""
        limit = None if task.max_norm is UNSET else task.max_norm
        if self._door is None or self._door[0] != (task.name, task.version, limit):  # one for each exchange: 2 µs a task
            schema: Schema | None = None
            if task.is_update and self._receives != "anything" and task.version is not None:
                schema = know(self.at(task.version).schema)
            # what fits the model is as large as the model: only others have a limit of their own
            refuses = self._receives is not None or bool(self._transforms.links) or bool(self._parts)
            fits = schema is not None and refuses
            fits = fits or task.kind not in (Kind.FIT, Kind.PARAMETERS)  # or brings nothing at all
            largest = self._max_bytes or 2**62 if fits else largest_update(self.contents, self._max_bytes)
            door = Door(task.kind, schema, self._max_examples, largest, self._room, limit, refuses=refuses)
            if schema is not None and task.version is not None and (self._transforms.links or self._parts):
                applied, beside = self._transforms.applied(self.facts(task.version)), self._schemas(task.version)
                wire = self._transforms.layouts(schema, beside)[-1]
                if wire.schema is not None:
                    know(wire.schema)
                door = replace(door, transforms=applied, beside=beside, wire=wire)
            self._door = (task.name, task.version, limit), door
        return self._door[1]

    def write(self, version: int, parameters: Parameters) -> None:
        """Makes these parameters the given version, which they read from now on: a recipe is followed once.

        Tries again for a while where the disk refuses.
        """
        failpoint("model.before-write")
        retry(
            lambda: write_content(self.contents, self.name(version), *parameters.stream()), patience=self.contents.patience
        )
        parameters.read_from(self.parameters(version))
        self._begin(version)
        failpoint("model.after-write")

    def adopt(self, version: int, content: str) -> None:
        """Makes a client's content the given version."""
        failpoint("model.before-adopt")
        self.contents.link(content, self.name(version))  # not renamed: until the step is journaled it may be asked again
        self.spend(content)
        self._begin(version)
        failpoint("model.after-adopt")

    def spend(self, *names: str) -> None:
        """Notes contents that are not needed once the present step is committed."""
        self._spent += names

    def forget_but(self, versions: frozenset[int]) -> None:
        """Removes what the step, which is durable now, has used up, and all but these versions, which are still needed."""
        for name in self._spent:
            self.contents.remove(name)
            failpoint("model.forgetting")
        self._spent = []
        for old in (self._kept | self._open.keys()) - versions:
            self._open.pop(old, None)
            self.forget(old)
        self._kept = versions

    def remove(self, lost: Lost) -> None:
        """Removes what is left of these contents and versions: their names are given anew."""
        for name in lost.contents:
            self.contents.remove(name)
        for version in lost.versions:
            self._open.pop(version, None)
            self.forget(version)

    def check(self, version: int, *, needed: bool = True) -> None:
        """Raises `StoreError` where a file of this version is gone or damaged; takes 10 µs for an untouched file.

        One that is not `needed` may never have been there.
        """
        for content in [self._slot(version, slot) for slot in self._slots]:
            if content is not None:
                content.close()
        try:
            for name in (self.name(version), *(self.slot_name(version, part) for part in self._parts)):
                self.contents.open(name).close()
        except StoreError as error:
            if needed or isinstance(error, ContentDamaged):
                raise

    def keep_only(self, state: State, versions: frozenset[int]) -> None:
        """Removes every content that neither these versions nor this state need."""
        self._kept = versions
        names = (name for version in versions for name in self.names(version))
        self.contents.keep_only({*state.contents, *names})


def _blocks(source: Source, size: int) -> Iterator[memoryview]:
    """All bytes of a source; a view is valid until the next."""
    buffer = memoryview(bytearray(min(BLOCK, size)))
    for start in range(0, size, BLOCK):
        view = buffer[: min(BLOCK, size - start)]
        source(start, view)
        yield view


def path_of(folder: Path, version: int) -> Path:
    """The file of a version in the folder of its run."""
    return folder / f"{GlobalModel.name(version)}.safetensors"


def describe_best(state: State, folder: Path) -> list[str]:
    """Where the best version is, in a line; nothing where none was kept."""
    standing = state.standing
    if standing.best_version is None:
        return []
    path = path_of(folder, standing.best_version)
    return [f"Best:  {path}, after round {standing.best_round} ({standing.best:g})"]
