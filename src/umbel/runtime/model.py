"""The global model on content files: its versions, the door that updates come through, and the step that makes the next.

Knows contents and schemas; what to combine and how is the owner's answer, in parameters that are read block by block.
"""

from __future__ import annotations

from umbel.door import Door
from umbel.exchange import Parameters
from umbel.params import NDArrays, Params
from umbel.rounds.messages import Kind, Task
from umbel.runtime.contents import Content, Contents, as_parameters, write_content
from umbel.wire import Schema

__all__ = ["GlobalModel"]


class GlobalModel:
    """Versions 0, 1, … of the model. Version n is what round n made; a round that made nothing has none."""

    def __init__(self, contents: Contents, *, free_form: bool, max_examples: int, max_bytes: int) -> None:
        self.contents = contents
        self._free_form = free_form
        self._max_examples = max_examples
        self._max_bytes = max_bytes
        self._open: dict[int, Content] = {}
        self._spent: list[str] = []

    @staticmethod
    def name(version: int) -> str:
        return f"model-{version:06}"

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

    def door(self, task: Task) -> Door:
        """What a reply to this task must be."""
        schema: Schema | None = None
        if task.kind is Kind.FIT and not self._free_form and task.version is not None:
            schema = self.at(task.version).schema
        return Door(task.kind, schema, self._max_examples, self._max_bytes)

    def write(self, version: int, parameters: Parameters) -> None:
        """Makes these parameters the given version."""
        write_content(self.contents, self.name(version), *parameters.stream())

    def adopt(self, version: int, content: str) -> None:
        """Makes a client's content the given version."""
        self.contents.rename(content, self.name(version))

    def spend(self, *names: str) -> None:
        """These contents are not needed once the present step is committed."""
        self._spent += names

    def committed(self, version: int) -> None:
        """The step to `version` is durable: forgets what it used up, and versions that no task can name any more."""
        for name in self._spent:
            self.contents.remove(name)
        self._spent = []
        for old in [v for v in self._open if v < version]:
            self._open.pop(old)
            self.contents.remove(self.name(old))
