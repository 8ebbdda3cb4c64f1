"""How a run ended."""

from __future__ import annotations

from umbel.errors import NotFinite, QuorumNotMet, UmbelError
from umbel.rounds import events
from umbel.rounds.events import Event

__all__ = ["Outcome"]


_ERRORS: dict[str, type[UmbelError]] = {error.__name__: error for error in (NotFinite, QuorumNotMet)}


class Outcome:
    """`why` in words; `error` names the error's class, "" for none; `stopped` tells Ctrl-C from the natural end."""

    def __init__(self) -> None:
        self.why = "the server went away"
        self.error = ""
        self.stopped = False

    def observe(self, event: Event) -> None:
        match event:
            case events.RunFinished():
                self.why, self.error = event.why, event.error
                self.stopped = event.stopped
            case _:
                pass

    def raise_error(self) -> None:
        """Raises the error that ended the run, if one did."""
        if self.error:
            raise _ERRORS.get(self.error, UmbelError)(self.why)

    @property
    def status(self) -> str:
        """For the list of runs."""
        return "failed" if self.error else "stopped" if self.stopped else "finished"
