"""What a transform is: two halves of one value, known on both sides by name and settings.

Knows updates, readers and numbers; knows no files, clients or rounds.

    client   encode   the whole update, once, after `fit`
    ─────────────── the network: names, settings and facts come with the task, never code ───────────────
    server   decode   one update, read block by block, whoever folds it
             finish   once, on the sum of a round, before the optimizer's step
             advance  facts for the next round: numbers that are committed with the version, and come back on resume
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from msgspec import Struct

from umbel.errors import Rejected
from umbel.params import NDArray, NDArrays
from umbel.rng import frozen_stream
from umbel.secret import Secret
from umbel.update import MODEL, Layout, Update
from umbel.wire import Schema, Source, dtype_of, short

__all__ = [
    "Applied",
    "Arrival",
    "Facts",
    "Reader",
    "Settings",
    "Site",
    "Totals",
    "Transform",
    "find",
    "is_in_the_box",
    "make",
    "plain_number",
    "reader_in",
    "reader_of",
    "register",
    "source_of",
]

BLOCK = 1 << 16  # coordinates that are looked at together; in float64 they stay in a level-2 cache

Facts = Mapping[str, float]
Settings = Mapping[str, object]


class Applied(Struct, frozen=True):
    """One transform as a task names it: plain values, which any program may read."""

    name: str
    settings: dict[str, object] = {}
    facts: dict[str, float] = {}


class Reader(NamedTuple):
    """An update that is read piece by piece, wherever it lies.

    `read(part, position, start, size)` gives `size` coordinates of a part's tensor from coordinate `start` on, shape
    `(size,)`, of any real dtype.
    """

    layout: Layout
    read: Callable[[str, int, int, int], NDArray]


class Arrival(NamedTuple):
    """What `decode` is told of an update: the layout that it restores, what its client was given, and the task's facts."""

    layout: Layout
    base: Reader
    facts: Facts


class Totals(NamedTuple):
    """What a round has added up: its number, how many updates, and the sum of their numbers of examples.

    `secret()` is the run's, for noise on exactly this sum: `totals.secret().stream("noise", totals.round, "model")` has 64
    bits for each coordinate, the same after a restart, which only this run can compute.
    """

    round: int
    updates: int
    examples: int
    secret: Callable[[], Secret] = Secret.new


@dataclass(frozen=True, slots=True)
class Site:
    """Where `encode` is: the task's facts, the client's own memory, and where in the run its draws belong.

    `memory` is this transform's, kept at this client from task to task: arrays, numbers, text, bytes. Assign to its keys,
    and do not change its arrays in place. It counts only where the server takes the update. `secret()` is this client's for
    this task, as `context.secret` is: `rng` is for draws that anybody may know, and noise that is to protect never comes
    from it.
    """

    name: str
    facts: Facts = field(default_factory=dict)
    memory: dict[str, object] = field(default_factory=dict)
    seed: int | None = None
    client: str = ""
    round: int = 0
    secret: Callable[[], Secret] = Secret.new

    def rng(self, *path: int | str) -> np.random.RandomState:
        """A generator for one place in this task: the same draws in whichever process. For a client without a lasting name
        they are the operating system's.
        """
        if self.seed is None:
            return np.random.RandomState()
        return frozen_stream(self.seed, "transform", self.name, self.client, self.round, *path)


def _same_layout(layout: Layout) -> Layout:
    return layout


def _same_update(update: Update, _: NDArrays, __: Site) -> Update:
    return update


def _same_reader(reader: Reader, _: Arrival) -> Reader:
    return reader


@dataclass(frozen=True, slots=True, eq=False)
class Transform:
    """What happens to an update between `fit` and the fold.

    A transform sees an update's part "difference": its arrays are the differences to what the client was given, in the
    model's dtypes; integers and booleans are in it as they were returned. What it makes of it, `layout` says.

    - `name`, `settings`: what a task carries; `register` says what the other side makes of them.
    - `layout(layout)` → the layout of what `encode` makes of an update with that layout.
    - `encode(update, base, site)` → what travels, its metrics and number of examples too; `base` are the arrays that
      the client was given, read-only.
    - `decode(reader, arrival)` → a reader with `arrival.layout`, of what has travelled. It must not raise for any values.
    - `finish(block, start, totals, facts)` → the round's mean difference, float64, shape `(n,)`, from floating coordinate
      `start` on (in layout order), as the optimizer steps it. The result must not depend on where blocks are cut.
    - `advance(facts, totals)` → the facts of the next round; `facts` are those of the first.
    - `biased`: what is decoded is not on average what was encoded. `codec`: it makes codes, so it is the last of a chain.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    layout: Callable[[Layout], Layout] = _same_layout
    encode: Callable[[Update, NDArrays, Site], Update] = _same_update
    decode: Callable[[Reader, Arrival], Reader] = _same_reader
    finish: Callable[[NDArray, int, Totals, Facts], NDArray] | None = None
    advance: Callable[[Facts, Totals], Facts] | None = None
    facts: Facts = field(default_factory=dict)
    biased: bool = False
    codec: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"a transform has the name of the function that makes it; got {short(self.name)}")
        for what, values in (("settings", self.settings), ("facts", self.facts)):
            if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
                raise ValueError(f"{self.name} has the {what} {short(values)}; they are a dict with names")
        for name, value in self.settings.items():
            if type(value) is not str and (value is None or plain_number(value) is not value):
                shown = f"{name}={short(value)}"
                raise ValueError(f"{self.name} has the setting {shown}; a task carries numbers and texts alone")
        for name, fact in self.facts.items():
            if plain_number(fact) is None:
                raise ValueError(f"{self.name} has the fact {name}={short(fact)}; facts are finite numbers")
        for half in ("layout", "encode", "decode", "finish", "advance"):
            given = getattr(self, half)
            if not callable(given) and not (given is None and half in ("finish", "advance")):
                raise ValueError(f"{self.name} has {half}={short(given)}; it is a function")

    @property
    def decodes(self) -> bool:
        """Whether it has a `decode` of its own."""
        return self.decode is not _same_reader

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"


_Make = TypeVar("_Make", bound=Callable[..., Transform])
_registry: dict[str, Callable[..., Transform]] = {}


def register(make: _Make) -> _Make:
    """Makes a function that returns a `Transform` known under its own name, on this side; the other side does the same.

    The function takes the transform's settings by name. Use it as a decorator, in a module that server and clients import.
    Raises `ValueError` for a name that another function has, and `TypeError` for what is no function, or has no name.
    """
    name = getattr(make, "__name__", "")
    if not callable(make) or not name.isidentifier():
        raise TypeError(f"register() takes a function with a name, which makes a Transform; got {short(make)}")
    known = _registry.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (make.__module__, make.__qualname__):
        raise ValueError(f"{known.__module__} has registered a transform called {name!r}; give yours another name")
    _registry[name] = make
    return make


def find(name: str) -> Callable[..., Transform] | None:
    """The function that makes the transforms of this name; None where it is not known here."""
    return _registry.get(name)


def is_in_the_box(link: Transform) -> bool:
    """Whether the transform is one of Umbel's own."""
    maker = find(link.name)
    return maker is not None and maker.__module__.startswith("umbel.")


def plain_number(value: object) -> float | None:
    """A finite number as messages carry it, True and False too; None for anything else."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    return plain if isinstance(plain, int) and -(2**63) <= plain < 2**63 else None


def make(applied: Applied) -> Transform:
    """The transform that a task names. Raises `Rejected` where this side cannot make it."""
    maker = find(applied.name)
    if maker is None:
        raise Rejected(
            f"the server asks for the transform {applied.name!r}, which this client does not know. Import the module that "
            "registers it before the client starts, or update umbel here"
        )
    try:
        return _make_cached(maker, tuple(sorted(applied.settings.items())))
    except (TypeError, ValueError) as error:
        raise Rejected(
            f"the server asks for the transform {applied.name!r} with settings that it does not take here ({error}). "
            "Have the same version of it on both sides"
        ) from None


@lru_cache(maxsize=64)
def _make_cached(maker: Callable[..., Transform], settings: tuple[tuple[str, object], ...]) -> Transform:
    return maker(**dict(settings))


def reader_of(layout: Layout, schema: Schema, source: Source) -> Reader:
    """Reads an update of this layout out of a content of that schema."""
    begins = layout.begins

    def read(part: str, position: int, start: int, size: int) -> NDArray:
        at = begins[part] + position
        block = np.empty(size, dtype_of(schema.specs[at].dtype))
        if size:
            source(schema.offsets[at] + start * block.dtype.itemsize, block.view(np.uint8).data)
        return block

    return Reader(layout, read)


def reader_in(layout: Layout, arrays: NDArrays) -> Reader:
    """Reads an update of this layout that is in memory, as the arrays of all its parts; nothing is copied."""
    begins, flat = layout.begins, [array.reshape(-1) for array in arrays]
    return Reader(layout, lambda part, position, start, size: flat[begins[part] + position][start : start + size])


def source_of(reader: Reader, part: str = MODEL, schema: Schema | None = None) -> Source:
    """The data bytes of a part, as a content of that schema has them; they are asked for by whole numbers."""
    schema = reader.layout[part] if schema is None else schema
    order = [position for position in schema.layout if schema.specs[position].nbytes]
    begins = [schema.offsets[position] for position in order]

    def source(start: int, out: memoryview) -> None:
        end = start + len(out)
        with np.errstate(over="ignore", invalid="ignore"):  # whatever a client has sent
            for position in order[max(bisect_right(begins, start) - 1, 0) :]:
                begin, finish, dtype, _ = schema.places[position]
                if begin >= end:
                    return
                low, high = max(begin, start), min(finish, end)
                if low < high:
                    size = dtype.itemsize
                    values = reader.read(part, position, (low - begin) // size, (high - low) // size)
                    out[low - start : high - start] = np.ascontiguousarray(values, dtype).view(np.uint8).data

    return source
