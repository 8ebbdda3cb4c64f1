"""Time that is told instead of waited for: every task takes as long as a function says, and answers come in that order.

So stragglers, deadlines, over-selection and asynchronous rounds are simulated as fast as the tasks can be computed, and come
out the same on every backend.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from umbel.dialogue import Parameters
from umbel.door import Door
from umbel.errors import SimulationError
from umbel.rounds.messages import Failed, Failure, Input, Kind, Reported, Task, Verdict
from umbel.runtime.transports.simulated.transport import SimulatedTransport
from umbel.training import Answer
from umbel.update import Given

__all__ = ["Durations", "VirtualTime"]

Durations = Callable[[str, int], float]


class _Due(NamedTuple):
    """When a task's answer comes; the order of dispatch decides between equals."""

    at: float
    order: int
    task: str


class VirtualTime:
    """A transport and its clock: `durations(client, round)` says how many seconds a client takes for a task of that round,
    `math.inf` that it never answers.

    `inside` sends every task by itself, and defers states.
    """

    def __init__(self, inside: SimulatedTransport, durations: Durations, *, start: float = 0.0) -> None:
        self._inside = inside
        self._durations = durations
        self._now = start
        self._order = 0
        self._due: list[_Due] = []
        self._here: dict[str, Input] = {}  # answers whose time has not come

    def __call__(self) -> float:
        """The run's time, in seconds."""
        return self._now

    @property
    def in_user_code(self) -> bool:
        return self._inside.in_user_code

    def receive(self, timeout: float | None) -> Input | None:
        until = None if timeout is None else self._now + timeout
        if not self._due or (until is not None and self._due[0].at > until):
            event = self._inside.receive(None if until is None else 0.0) if not self._due else None
            if event is None and until is not None:
                self._now = until
            return event
        due = self._due[0]
        if due.at == math.inf:
            raise SimulationError("durations() says inf for all who are left, and no round_timeout= ends the round")
        while due.task not in self._here:
            event = self._inside.receive(None)
            name = _task_of(event)
            if event is None or name is None:
                return event
            self._here[name] = event
        heapq.heappop(self._due)
        self._now = max(self._now, due.at)
        self._inside.keep(due.task)
        return self._here.pop(due.task)

    def put(self, event: Input | BaseException) -> None:
        self._inside.put(event)

    def dispatch(self, task: Task, given: Given, door: Door) -> None:
        seconds = float(self._durations(task.client, task.round))
        if not seconds >= 0:
            raise ValueError(f"durations({task.client!r}, {task.round}) = {seconds}; it is in seconds, 0 or more")
        self._order += 1
        heapq.heappush(self._due, _Due(task.at + seconds, self._order, task.id))
        self._inside.dispatch(task, given, door)

    def cancel(self, task: Task) -> None:
        self._due = [due for due in self._due if due.task != task.id]
        heapq.heapify(self._due)
        self._here.pop(task.id, None)
        self._inside.cancel(task)

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        self._inside.settle(task, verdict, why)

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        return self._inside.ask(client, kind, parameters, config, timeout)

    def before_asking(self, then: Callable[[], None]) -> None:
        self._inside.before_asking(then)

    def close(self, why: str, *, over: bool) -> None:
        self._inside.close(why, over=over)


def _task_of(event: Input | None) -> str | None:
    match event:
        case Reported(replies=((task, _),)) | Failed(task=task):
            return task
        case _:
            return None
