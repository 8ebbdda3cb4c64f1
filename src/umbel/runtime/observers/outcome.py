"""How a run ended."""

from __future__ import annotations

from typing import Literal

from umbel.errors import NotFinite, QuorumNotMet, UmbelError
from umbel.rounds import events
from umbel.rounds.events import Event

__all__ = ["Outcome", "Status", "status_of"]

Status = Literal["finished", "stopped", "failed"]


_ERRORS: dict[str, type[UmbelError]] = {error.__name__: error for error in (NotFinite, QuorumNotMet)}


class Outcome:
    """`why` in words; `error` names the error's class, "" for none; `status` tells Ctrl-C from the natural end."""

    def __init__(self) -> None:
        self.why = "the server went away"
        self.error = ""
        self.status: Status = "finished"  # for the list of runs

    def observe(self, event: Event) -> None:
        match event:
            case events.RunFinished():
                self.why, self.error = event.why, event.error
                self.status = status_of(event)
            case _:
                pass

    def raise_error(self) -> None:
        """Raises the error that ended the run, if one did."""
        if self.error:
            raise _ERRORS.get(self.error, UmbelError)(self.why)


def status_of(event: events.RunFinished) -> Status:
    """How a run ended, in a word."""
    return "failed" if event.error else "stopped" if event.stopped else "finished"
