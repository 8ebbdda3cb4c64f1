"""Makes observers of callbacks: each event becomes the call that it stands for.

Knows events and callbacks; knows no files and no trackers. What a callback raises is the audience's affair
(runtime/observers/audience.py): it names who raised, once, and drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from umbel import events as told
from umbel.callbacks.base import Callback
from umbel.callbacks.course import Course
from umbel.callbacks.rows import rows_after

__all__ = ["observers_of"]


def observers_of(callbacks: Sequence[Callback], course: Course) -> list[Callable[[told.Event], object]]:
    """The course, and an observer for each callback; nothing where there are none."""
    course.followed = bool(callbacks)
    return [course, *(_Calls(one, course) for one in callbacks)] if callbacks else []


class _Calls:
    """One callback as an observer."""

    def __init__(self, callback: Callback, course: Course) -> None:
        self.__name__ = type(callback).__name__
        self._callback, self._course = callback, course
        self._begun = False
        callback._course = course

    def __call__(self, event: told.Event) -> None:
        callback = self._callback
        match event:
            case told.RunStarted():
                self._begun = True
                callback.on_run_begin({"run": event.run, "num_rounds": event.num_rounds, "resumed": False, "round": 0})
            case told.RunResumed():
                self._begun = True
                logs = {"run": event.run, "num_rounds": event.num_rounds, "resumed": True, "round": max(event.round - 1, 0)}
                callback.on_run_begin(logs)
            case told.RoundStarted():
                callback.on_round_begin(event.round, {"num_rounds": event.num_rounds})
            case told.TaskAnswered(kind="fit" | "evaluate"):
                callback.on_client_result(event.round, event.client, _answer(event))
            case told.ExchangeClosed(kind="evaluate"):
                loss = {} if event.loss is None else {"loss": event.loss}
                callback.on_evaluate_end(event.round, {**event.metrics, **loss})
            case told.CentrallyEvaluated():
                loss = {} if event.loss is None else {"central loss": event.loss}
                metrics = {f"central {name}": value for name, value in event.metrics.items()}
                callback.on_evaluate_end(event.round, metrics | loss)
            case told.RoundClosed():
                callback.on_round_end(event.round, rows_after(self._course.history, event.round - 1).get(event.round, {}))
            case told.RunEnded() if self._begun:  # a process that only takes leave of the clients tells nothing else
                callback.on_run_end({"status": event.status, "why": event.why, "rounds": event.rounds})
            case told.RunInterrupted() if self._begun:
                done = max((series[-1][0] for _, series in self._course.history.named_series()), default=0)
                callback.on_run_end({"status": "interrupted", "why": event.why, "rounds": done})
            case _:
                pass


def _answer(event: told.TaskAnswered) -> dict[str, object]:
    """What a client has said, as logs."""
    loss = {} if event.loss is None else {"loss": event.loss}
    facts = {"kind": event.kind, "num_examples": event.num_examples, "seconds": event.seconds}
    return {**event.metrics, **loss, **facts}
