"""How a run ended, as the coordinator's state has it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from umbel.errors import NotFinite, QuorumNotMet, UmbelError
from umbel.rounds.coordinator import State
from umbel.rounds.notices import RunFinished

__all__ = ["Outcome", "Status", "outcome_of", "status_of"]

Status = Literal["finished", "stopped", "failed"]

_ERRORS: dict[str, type[UmbelError]] = {error.__name__: error for error in (NotFinite, QuorumNotMet)}


class Outcome(NamedTuple):
    """`why` in words; `error` names the error's class, "" for none; `status` tells Ctrl-C from the natural end."""

    why: str
    error: str
    status: Status

    def raise_error(self) -> None:
        """Raises the error that ended the run, if one did."""
        if self.error:
            raise _ERRORS.get(self.error, UmbelError)(self.why)


def outcome_of(state: State) -> Outcome:
    """How the run of this state ended; one that has not is left to the next server."""
    if state.ended is None:
        return Outcome("the server went away", "", "finished")
    return Outcome(state.ended.why, state.ended.error, status_of(state.ended))


def status_of(event: RunFinished) -> Status:
    """How a run ended, in a word."""
    return "failed" if event.error else "stopped" if event.stopped else "finished"
