"""What the loop asks of a store."""

from __future__ import annotations

from typing import Protocol

from umbel.rounds.coordinator import State
from umbel.rounds.messages import Input
from umbel.runtime.contents import Contents

__all__ = ["Store"]


class Store(Protocol):
    """The journal of one run and its contents. An input counts once `append` has returned."""

    contents: Contents

    def append(self, event: Input, at: float) -> None: ...
    def snapshot(self, state: State, history: bytes, at: float) -> None: ...
    def accepted(self, task: str) -> bool: ...
    def finish(self, status: str) -> None: ...
    def close(self) -> None: ...
