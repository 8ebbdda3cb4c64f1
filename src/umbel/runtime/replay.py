"""A journal fed through the coordinator again: how a run resumes, and how anyone can check what it did.

The commands that come out must be those that came out when the journal was written; their digests are in it. The first
difference ends it: from there on this Umbel would make another run of the same inputs. Runs no code of the owner's or of the
clients'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from umbel.errors import RunMismatch
from umbel.rounds.coordinator import Coordinator
from umbel.rounds.messages import Command, Input
from umbel.runtime.failpoints import failpoint
from umbel.runtime.stores.codec import digest

if TYPE_CHECKING:
    from umbel.runtime.stores.database import Kept

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """An entry of the journal, and what the coordinator says to it."""

    seq: int
    event: Input
    at: float
    commands: list[Command]
    recorded: bool  # whether the journal says what it said then


def replay(coordinator: Coordinator, entries: Iterable[Kept]) -> Iterator[Replayed]:
    """Feeds entries to `coordinator`, one by one. Raises `RunMismatch` at the first whose commands are not those of then."""
    for seq, event, at, said in entries:
        before = coordinator.state.phase
        try:
            commands = coordinator.handle(event, at)
        except Exception as error:  # a state or an input that no coordinator has written
            raise RunMismatch(_difference(coordinator, seq, event, f"{error or type(error).__name__}")) from error
        if said is not None and said != digest(commands):
            now = ", ".join(type(command).__name__ for command in commands) or "nothing"
            raise RunMismatch(
                _difference(coordinator, seq, event, f"in phase {before} it now leads to other commands than then: {now}")
            )
        yield Replayed(seq, event, at, commands, said is not None)
        failpoint("resume.replaying")


def _difference(coordinator: Coordinator, seq: int, event: Input, what: str) -> str:
    return (
        f"entry {seq} ({type(event).__name__}, round {coordinator.state.round}) of run {coordinator.rules.run}: {what}. "
        "The journal was changed, or another version of Umbel wrote it: use that one, or begin a new run (fresh=True)"
    )
