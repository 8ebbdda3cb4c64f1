"""The course of a run, folded from its public events: the History as it was at each moment, and that moment's version.

Knows events and contents; knows no callback. It stands before the callbacks in the list of observers, so that what they look
at is what they are told of, however far behind the run they are.
"""

from __future__ import annotations

import copy

from umbel import events as told
from umbel.runtime.contents import Content
from umbel.runtime.observers.history import FailureNote, History
from umbel.runtime.observers.versions import Versions

__all__ = ["Course"]


class Course:
    """`history`, and what `content` gives, are those of the event that was told last. `followed`: somebody looks at it."""

    def __init__(self) -> None:
        self.followed = False
        self.history = History()
        self.versions = Versions()

    @property
    def kept(self) -> Versions | None:
        """Where versions are kept until callbacks have been there; None where there are no callbacks."""
        return self.versions if self.followed else None

    def begin(self, history: History) -> None:
        """Takes over the History of a run that goes on. Call it once, before the first event."""
        if self.followed:
            self.history = copy.deepcopy(history)

    def __call__(self, event: told.Event) -> None:
        """Takes in one event."""
        history = self.history
        match event:
            case told.ExchangeClosed(kind="fit"):
                history.add_metrics_distributed_fit(event.round, {**event.metrics})
            case told.ExchangeClosed(kind="evaluate"):
                if event.loss is not None:
                    history.add_loss_distributed(event.round, event.loss)
                history.add_metrics_distributed(event.round, {**event.metrics})
            case told.CentrallyEvaluated():
                history.add_loss_centralized(event.round, event.loss)
                history.add_metrics_centralized(event.round, {**event.metrics})
            case told.TaskFailed(kind="parameters", reason="empty"):
                pass
            case told.TaskFailed():
                note = FailureNote(event.round, event.kind, event.client, event.reason, event.text, event.detail)
                history.failures.append(note)
            case told.VersionMade(version=version):
                self.versions.turn_to(version)
            case told.RunResumed(version=int(version)):
                self.versions.turn_to(version)
            case told.RunRewound(round=number, version=version):
                history.forget(number)
                self.versions.turn_to(version)
            case _:
                pass

    def content(self) -> Content:
        """The model's content, of the version that was told last. Raises `LookupError` where there is none so far."""
        return self.versions.current()
