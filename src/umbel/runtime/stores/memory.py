"""A store that keeps nothing beyond the process."""

from __future__ import annotations

from umbel.rounds.coordinator import State
from umbel.rounds.messages import Input
from umbel.runtime.contents import Contents, MemoryContents

__all__ = ["MemoryStore"]


class MemoryStore:
    """No journal; contents in memory, or wherever it is told."""

    def __init__(self, contents: Contents | None = None) -> None:
        self.contents: Contents = contents or MemoryContents()

    def append(self, event: Input, at: float) -> None:
        pass

    def snapshot(self, state: State, history: bytes, at: float) -> None:
        pass

    def accepted(self, task: str) -> bool:
        return False

    def finish(self, status: str) -> None:
        pass

    def close(self) -> None:
        pass
