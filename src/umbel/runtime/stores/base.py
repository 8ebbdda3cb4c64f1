"""What the loop asks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from umbel.rounds.coordinator import State
from umbel.rounds.messages import Input
from umbel.runtime.contents import Contents

__all__ = ["Snapshot", "Store", "Unit"]


class Unit(Enum):
    """What is committed together."""

    INPUT = "inputs, before anybody can see what they caused"
    ROUND = "a round: what is lost of an unfinished one is done again, and comes out the same"
    NOTHING = "nothing is kept"


class Snapshot(NamedTuple):
    """The coordinator's state and the history, at a run time."""

    state: State
    history: bytes
    at: float


class Store(Protocol):
    """The journal of one run and its contents.

    `write` adds inputs with their run times, and the state after the last of them, all or nothing; they count once it has
    returned.
    """

    contents: Contents
    unit: Unit

    def write(self, entries: Sequence[tuple[Input, float]], snapshot: Snapshot | None = None) -> None: ...
    def accepted(self, task: str) -> bool: ...
    def finish(self, status: str) -> None: ...
    def close(self) -> None: ...
