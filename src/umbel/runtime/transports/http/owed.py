"""What every client is owed: its tasks, how far their answers have come, and what a poll brings of it. Without I/O.

Knows tasks by name, and moments as numbers; knows no requests, no clock and no event loop.

What a client is owed is a set, and a poll carries the set that the client has: the answer is the difference. So nothing is
lost with a lost answer, and a restarted server needs no memory of what it has sent. A task is owed from `owe` until it is
taken back or decided. One that is taken back is told to its client; one that is decided is not: its reply was answered.
Those that a run which goes on is about to owe again are `pending`: neither owed nor taken back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from umbel.door import Door
from umbel.rounds.messages import Task
from umbel.runtime.transports.http.draft import Draft
from umbel.runtime.transports.http.upload import Upload
from umbel.update import Given

__all__ = ["Debts", "News", "Owed"]

REMEMBERED = 10_000  # tasks known as decided, or as taken back
TOLD = 5  # times that a client may have lost a task and ask for it again
_NOTHING: Mapping[str, Owed] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class Owed:
    """A task that a client is owed, and how far its answer has come."""

    task: Task
    given: Given
    door: Door
    upload: Upload | None = None
    draft: Draft | None = None  # an offer that comes in pieces
    tellings: int = 0  # how often a poll has brought it
    submitted: bool = False  # its answer is with the run's loop
    told_at: float = 0.0  # when the answer to another reply brought it; a poll from before need not

    def withdraw(self) -> None:
        """Forgets what has come of an answer; its sender begins anew."""
        self.withdraw_upload()
        self.withdraw_draft()

    def withdraw_upload(self) -> None:
        if self.upload is not None:
            self.upload.abort()
            self.upload = None

    def withdraw_draft(self) -> None:
        if self.draft is not None:
            self.draft.abort()
            self.draft = None


class News(NamedTuple):
    """What a poll brings: tasks that the client does not have, and names of those that it has and is no longer owed."""

    tasks: list[Owed]
    cancelled: list[str]

    def __bool__(self) -> bool:
        return bool(self.tasks or self.cancelled)


class Debts:
    """What is owed, by client and by task."""

    def __init__(self, pending: Iterable[str] = ()) -> None:
        self._owed: dict[str, dict[str, Owed]] = {}
        self._holders: dict[str, str] = {}  # task → client
        self._pending = set(pending)
        self._decided: OrderedDict[str, None] = OrderedDict()
        self._taken_back: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, client: object) -> bool:
        """Whether anything is owed to this client."""
        return client in self._owed

    def to(self, client: str) -> Mapping[str, Owed]:
        """What is owed to this client, by task."""
        return self._owed.get(client, _NOTHING)

    def all(self) -> Iterable[Owed]:
        return (owed for mine in self._owed.values() for owed in mine.values())

    def is_owed(self, owed: Owed) -> bool:
        """Whether this task is still owed: another request may have ended it since."""
        return self.to(owed.task.client).get(owed.task.id) is owed

    def is_pending(self, task: str) -> bool:
        return task in self._pending

    def owe(self, task: Task, given: Given, door: Door) -> None:
        self._owed.setdefault(task.client, {})[task.id] = Owed(task, given, door)
        self._holders[task.id] = task.client
        self._pending.discard(task.id)

    def take_back(self, task: str) -> bool:
        """Forgets a task that is no longer wanted, and what has come of its answer. Returns whether it was owed."""
        self._pending.discard(task)
        owed = self._remove(task)
        if owed is None:
            return False
        _remember(self._taken_back, task)
        if not owed.submitted:
            owed.withdraw()
        return True

    def decide(self, task: str) -> None:
        """Forgets a task whose answer is decided."""
        self._remove(task)
        _remember(self._decided, task)

    def news(self, client: str, have: Iterable[str], *, before: float, follows: bool = False) -> News:
        """What a poll of this client brings that has these tasks, and began `before`.

        Without tasks, where it `follows`: the answer to a reply of its is about to bring them.
        """
        mine = self.to(client)
        cancelled = [name for name in have if not (name in mine or name in self._decided or name in self._pending)]
        return News([] if follows else self.new(client, have, before=before), cancelled)

    def new(self, client: str, have: Iterable[str], *, before: float) -> list[Owed]:
        """What the client is owed, does not have, and was not told of since `before`."""
        mine = self._owed.get(client)
        if not mine:
            return []
        known = set(have)
        return [
            owed for name, owed in mine.items() if name not in known and not owed.submitted and owed.told_at <= before
        ]

    def tell(self, news: News) -> bool:
        """Counts that a poll brings this news. Returns whether the news is worth an answer at once.

        It is not where the client was told of all these tasks `TOLD` times, and loses none that it has.
        """
        fresh = any(owed.tellings < TOLD for owed in news.tasks)
        for owed in news.tasks:
            owed.tellings += 1
        return fresh or any(name in self._taken_back for name in news.cancelled)

    def _remove(self, task: str) -> Owed | None:
        client = self._holders.pop(task, None)
        if client is None:
            return None
        mine = self._owed[client]
        owed = mine.pop(task)
        if not mine:
            del self._owed[client]
        return owed


def _remember(tasks: OrderedDict[str, None], task: str) -> None:
    tasks[task] = None
    if len(tasks) > REMEMBERED:
        tasks.popitem(last=False)
