"""Who watches a run: observers, callbacks and trackers, together with what callbacks look at. Knows no run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from umbel.callbacks.base import Callback
from umbel.callbacks.calls import observers_of
from umbel.callbacks.course import Course
from umbel.callbacks.trackers import TrackerName, trackers_of
from umbel.events import Observer
from umbel.runtime.observers.history import History
from umbel.runtime.observers.versions import Versions
from umbel.runtime.saved import MakeModel

__all__ = ["Watchers", "gather_watchers"]


@dataclass(frozen=True, slots=True)
class Watchers:
    """`observers` are told of each event, in this order; those that stand for callbacks look at the `course`."""

    callbacks: Sequence[Callback]
    course: Course
    observers: Sequence[Observer]

    @contextmanager
    def following(self, history: History) -> Iterator[Versions | None]:
        """Follows a run from this History on. Gives the place where versions wait for callbacks, None without callbacks."""
        self.course.begin(history)
        try:
            yield self.course.kept
        finally:
            self.course.versions.close()


def gather_watchers(
    observers: Sequence[Observer],
    callbacks: Sequence[Callback],
    report_to: TrackerName | Sequence[TrackerName] | None,
    make_model: MakeModel | None = None,
) -> Watchers:
    """All that watch a run. `make_model` says how callbacks get a model of its framework, where that is known."""
    every = [*callbacks, *trackers_of(report_to or ())]
    for callback in every if make_model is not None else ():
        callback.make_model = make_model
    course = Course()
    return Watchers(every, course, [*observers, *observers_of(every, course)])
