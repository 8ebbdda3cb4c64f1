"""A store that keeps nothing beyond the process."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.runtime.contents import Contents
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.base import Entry, Snapshot, Unit

__all__ = ["MemoryStore"]


class MemoryStore:
    """No journal; contents in memory, or wherever it is told."""

    unit = Unit.NOTHING
    head = None

    def __init__(self, contents: Contents | None = None) -> None:
        self.contents: Contents = contents or MemoryContents()

    def write(self, entries: Sequence[Entry], snapshot: Snapshot | None = None) -> None:
        pass

    def accepted(self, task: str) -> bool:
        return False

    def note(self, name: str, value: object) -> None:
        pass

    def finish(self, status: str) -> None:
        pass

    def close(self) -> None:
        pass
