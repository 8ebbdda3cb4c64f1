"""What a strategy goes on from where a program calls its methods by itself: the version and the slots made last, in memory.

Knows results and rounds; knows no run.
"""

from __future__ import annotations

import numpy as np

from umbel.dialogue import Parameters
from umbel.dialogue.results import Round
from umbel.fold import Memory, in_memory
from umbel.params import Params
from umbel.wire import Schema, Source

__all__ = ["Standalone"]


class Standalone:
    """The version and the slots that a strategy has made last; it begins with `start`."""

    def __init__(self, start: Parameters | None = None) -> None:
        self.slots: dict[str, Params] = {}
        self._start = start
        self._made: Params | None = None

    def round(self, number: int, cohort: int) -> Round:
        """A round that goes on from the version made last."""
        if self._made is None and self._start is not None:
            self._made = Params.of(self._start.arrays())  # in memory from its first use on: a run never does
        made = self._made
        return Round(
            number=number,
            base=None if made is None else (made.schema, in_memory(made)),
            cohort=cohort,
            memory=Memory(self._read, lambda name, schema: _Slot(self.slots, name, schema)),
            keep=self._keep,
        )

    def _keep(self, made: Parameters) -> None:
        self._made = Params.of(made.arrays())

    def _read(self, name: str) -> tuple[Schema, Source] | None:
        return (self.slots[name].schema, in_memory(self.slots[name])) if name in self.slots else None


class _Slot:
    """A slot on its way into a dict."""

    def __init__(self, slots: dict[str, Params], name: str, schema: Schema) -> None:
        self._slots, self._name, self._schema, self._data = slots, name, schema, bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def commit(self) -> None:
        self._slots[self._name] = Params(self._schema, np.frombuffer(bytes(self._data), np.uint8))

    def abort(self) -> None:
        self._data.clear()
