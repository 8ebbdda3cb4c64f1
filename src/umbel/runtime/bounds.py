"""How much of what clients report a run keeps: names of metrics in its History, and words about failures.

Within a round a client may say a good deal; what it says in all of them together is bounded here, before it is journaled.
What is cut follows from the History and the cohort, not from the order of arrival. Knows no strategy and no transport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from umbel.remarks import Remark, remark
from umbel.reports import NAME, Room, size_of
from umbel.rounds.coordinator import Coordinator
from umbel.rounds.messages import Failed, Failure, Input, Kind
from umbel.rounds.notices import CohortChosen, Notice, TaskFailed
from umbel.runtime.observers.history import History
from umbel.wire import short

__all__ = ["Failures", "keep_names"]

OWN_NAMES = 10  # times as many names as clients may bring an owner's functions may make
PER_CLIENT = 2**16  # characters of text and traceback
PER_RUN = 2**24
ALWAYS = 200  # characters of a text that are kept in any case


def keep_names(
    history: History,
    kind: Kind,
    metrics: Mapping[str, object],
    *,
    sent: Collection[str],
    room: Room,
    always: Collection[str],
) -> dict[str, object]:
    """The metrics of an exchange whose names the History has, or has room for; remarks which are left out.

    `sent` are names that clients have brought: they are given `room.metrics` in all, others ten times as many. `always` are
    names that are kept in any case.
    """
    known = history.metrics_distributed_fit if kind is Kind.FIT else history.metrics_distributed
    new = [name for name in metrics if name not in known]
    if not new:
        return {**metrics}
    count, size = len(known), sum(map(size_of, known))
    left_out: dict[str, None] = {}
    for name in sorted(new, key=lambda name: (name not in always, name not in sent)):
        most = room.metrics if name in sent else OWN_NAMES * room.metrics
        if name in always or (count < most and size + size_of(name) <= NAME * most):
            count, size = count + 1, size + size_of(name)
        else:
            left_out[name] = None
    if left_out:
        first = short(next(iter(left_out)))
        text = f"{len(left_out):,} metrics have names that were not there before, such as {first}, and are not kept"
        remark(Remark(("names", kind), f"{text}: there is room for {room.metrics:,} names; max_metrics= makes more", text))
    return {name: value for name, value in metrics.items() if name not in left_out}


class Failures:
    """Cuts what is said about failures to what a run keeps of it: for each client, and of all together."""

    def __init__(self, coordinator: Coordinator, history: History) -> None:
        self._coordinator = coordinator
        self._said: Counter[str] = Counter()  # characters, by client
        for note in history.failures:
            self._said[note.client] += len(note.text) + len(note.detail)
        self._in_all = self._said.total()
        self._share = self._share_among(len(coordinator.state.tasks))

    def cut(self, event: Input) -> Input:
        """The input as it is to be handled and journaled."""
        task = self._coordinator.asked(event.task) if isinstance(event, Failed) else None
        if task is None or not isinstance(event, Failed):
            return event
        left = min(PER_CLIENT - self._said[task.client], self._share)
        return event if _length(event.failure) <= left else replace(event, failure=_cut(event.failure, max(left, ALWAYS)))

    def observe(self, event: Notice) -> None:
        match event:
            case CohortChosen():
                self._share = self._share_among(len(event.clients))
            case TaskFailed():
                self._said[event.client] += len(event.text) + len(event.detail)
                self._in_all += len(event.text) + len(event.detail)
            case _:
                pass

    def _share_among(self, cohort: int) -> int:
        """Characters for each client of a cohort: told when it is chosen, so that who comes first changes nothing."""
        return (PER_RUN - self._in_all) // max(cohort, 1)


def _length(failure: Failure) -> int:
    return len(failure.text) + len(failure.detail)


def _cut(failure: Failure, most: int) -> Failure:
    """The text from its beginning, and as much of the end of the traceback as there is room for."""
    text = failure.text if len(failure.text) <= most else failure.text[: most - 1] + "…"
    left = most - len(text)
    return replace(failure, text=text, detail=failure.detail[-left:] if left >= ALWAYS else "")
