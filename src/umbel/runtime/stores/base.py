"""What the loop asks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from umbel.rounds.coordinator import State
from umbel.rounds.messages import Command, Input, Replied, Settle, Verdict
from umbel.rounds.notices import Notice
from umbel.runtime.contents import Contents
from umbel.runtime.retry import PATIENCE

__all__ = ["Durability", "Entry", "Keeping", "Snapshot", "Store", "Unit"]

Durability = Literal["process", "power"]


class Unit(Enum):
    """What is committed together."""

    INPUT = "inputs, before anybody can see what they caused"
    ROUND = "a round: what is lost of an unfinished one is done again, and comes out the same"
    NOTHING = "nothing is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a run is kept.

    - `durability`: what an acknowledged update survives: the death of the "process", or the loss of "power" too.
    - `rounds`: how many rounds the journal goes back at least; None keeps all of it.
    - `audit`: whether a chained record is kept of who sent what.
    - `patience`: seconds that a full disk or an absent database is tried again, before the run stops.
    """

    durability: Durability = "process"
    rounds: int | None = 100
    audit: bool = False
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        if self.durability not in ("process", "power"):
            raise ValueError(f"durability={self.durability!r}; it is 'process' or 'power'")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"keep_rounds={self.rounds}; the journal keeps 1 round at least, and None keeps all")
        if not self.patience >= 0:
            raise ValueError(f"store_patience={self.patience} seconds; it must not be negative")

    @property
    def power(self) -> bool:
        return self.durability == "power"


class Entry(NamedTuple):
    """An input that has been handled, at a run time, and what the coordinator said to it."""

    event: Input
    at: float
    commands: Sequence[Command] = ()

    @property
    def counted(self) -> str | None:
        """The task whose reply counts with this; None for everything else, and for a reply that came too late."""
        event = self.event
        if not isinstance(event, Replied) or Settle(event.task, Verdict.ACCEPTED) not in self.commands:
            return None
        return event.task


class Snapshot(NamedTuple):
    """The coordinator's state at a run time, and what has come to the History since the snapshot before."""

    state: State
    told: Sequence[Notice]
    at: float


class Store(Protocol):
    """The journal of one run and its contents. `head` is the last hash of its audit; None where no audit is kept.

    `write` adds entries, and the state after the last of them, all or nothing; they count once it has returned. `accepted`
    tells whether a reply to this task has counted. `note` keeps a fact beside the run's fingerprint.
    """

    contents: Contents
    unit: Unit

    @property
    def head(self) -> bytes | None: ...
    def write(self, entries: Sequence[Entry], snapshot: Snapshot | None = None) -> None: ...
    def accepted(self, task: str) -> bool: ...
    def note(self, name: str, value: object) -> None: ...
    def finish(self, status: str) -> None: ...
    def close(self) -> None: ...
