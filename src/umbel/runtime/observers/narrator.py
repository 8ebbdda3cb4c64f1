"""A run as the public events of `umbel.events`: what went into the coordinator and what came out, told in order.

Knows the inputs, the commands and the sizes of contents; knows neither who listens nor threads. Folds look on in the run's
own thread, and are told at once. The audience hears later where there is a journal: what it is told is held back until
`release`. The journal has it then, so nothing is ever taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from umbel import events as told
from umbel.accidents import message_of
from umbel.errors import StoreError
from umbel.rounds import notices
from umbel.rounds.coordinator import Coordinator
from umbel.rounds.messages import Cancel, Command, Dispatch, Input, Kind, Publish, Replied, Reply, Reported, Stepped, Task
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.audience import Audience
from umbel.runtime.observers.history import History, Series
from umbel.runtime.observers.outcome import status_of
from umbel.runtime.observers.versions import Versions
from umbel.runtime.signals import Terminated

__all__ = ["ON_DEMAND", "Fold", "Narrator"]

Fold = Callable[[told.Event], object]
# Made only where somebody follows them. There are as many of tasks that go well as of all others together, and each takes
# 5 µs, or a look at a file; the other two take a look at a file, and at the whole History.
ON_DEMAND: frozenset[type] = frozenset({told.TaskSent, told.TaskAnswered, told.VersionMade, told.RoundClosed})

_Key = tuple[int, str, str]  # round, exchange, client


class Narrator:
    """Tells `folds` each event at once, and the `audience` too; where it `holds`, the audience after `release`.

    `followed` are those of `ON_DEMAND` that the folds look at; an audience follows all of them. `versions` keeps what is
    told of open for readers. A context: an error that ends the loop is the last that is told.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        history: History,
        model: GlobalModel,
        *,
        folds: Sequence[Fold] = (),
        followed: Collection[type] = (),
        audience: Audience | None = None,
        holds: bool = False,
        versions: Versions | None = None,
    ) -> None:
        state = coordinator.state
        self._coordinator, self._history, self._model = coordinator, history, model
        self._folds = folds
        self._followed = ON_DEMAND if audience else frozenset(followed)
        self._audience = audience or None  # nobody is none
        self._holds = holds
        self._versions = versions
        self._version, self._completed = state.version, state.completed
        self._at = 0.0
        self._under_way: dict[_Key, list[Task]] = {}
        for task in coordinator.pending:
            self._remember(task)
        self._sizes: dict[str, int] = {}  # of the content that travels with most tasks
        self._held: list[told.Event] = []

    def take(self, event: Input, commands: Sequence[Command], at: float) -> None:
        """Tells what an input has brought about; the History has it already."""
        self._at = at
        replies = _replies(event)
        for command in commands:
            match command:
                case Publish(event=published):
                    self._publish(published, event, replies)
                case Dispatch(task):
                    self._remember(task)
                    self._tell_task(task, again=False)
                case _:
                    pass
        for command in commands:
            if isinstance(command, Cancel):  # not before: its failure may come after it
                self._forget(_key(command.task), command.task.id)

    def owe(self, commands: Iterable[Command]) -> None:
        """Tells what this process does for the one before it."""
        for command in commands:
            match command:
                case Dispatch(task):
                    self._tell_task(task, again=True)
                case Publish(event=published):
                    self._publish(published, None, {})
                case _:
                    pass

    def release(self) -> None:
        """Tells the audience what has been held back."""
        if self._audience is not None:
            for event in self._held:
                self._audience.tell(event)
            self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        why = "SIGTERM" if isinstance(error, Terminated) else f"{type(error).__name__}: {message_of(error)}"
        self._held.clear()  # it is not in the journal: a process that goes on with the run tells it
        self._say(told.RunInterrupted(at=self._at, why=why.removesuffix(": ")))
        self.release()

    # ---- what the coordinator gives notice of

    def _publish(self, event: notices.Notice, cause: Input | None, replies: Mapping[str, Reply]) -> None:
        state, at = self._coordinator.state, event.at
        match event:
            case notices.TaskSucceeded():
                self._tell_answer(event, replies)
            case notices.TaskFailed():
                self._tell_failure(event, replies)
            case notices.ClientJoined():
                self._say(told.ClientJoined(at=at, client=event.client, available=event.available))
            case notices.ClientLeft():
                self._say(told.ClientLeft(at=at, client=event.client, available=event.available, why=event.why))
            case notices.PopulationJoined():
                self._say(told.PopulationJoined(at=at, clients=event.clients, available=event.available))
            case notices.WaitingForClients():
                waits = told.WaitingForClients(at=at, round=event.round, available=event.available, needed=event.needed)
                self._say(waits)
            case notices.RoundStarted():
                self._tell_round(at)
                self._say(told.RoundStarted(at=at, round=event.round, num_rounds=event.num_rounds))
            case notices.CohortChosen():
                self._say(
                    told.CohortChosen(
                        at=at,
                        round=event.round,
                        kind=str(event.kind),
                        attempt=event.attempt,
                        clients=event.clients,
                        available=event.available,
                    )
                )
            case notices.ExchangeClosed():
                fit = event.kind == "fit"
                self._tell_exchange(event, cause.void if fit and isinstance(cause, Stepped) else "")
                if fit:
                    self._tell_version(at, event.round)
            case notices.ModelInitialized():
                self._say(told.ModelInitialized(at=at, source=event.source))
                self._tell_version(at, 0)
            case notices.CentrallyEvaluated():
                version = state.version or 0
                loss, metrics = _number(event.loss), {**event.metrics}
                self._say(told.CentrallyEvaluated(at=at, round=event.round, version=version, loss=loss, metrics=metrics))
            case notices.RunStarted():
                self._say(told.RunStarted(at=at, run=self._coordinator.rules.run, num_rounds=event.num_rounds))
            case notices.RunResumed():
                self._keep_version(state.version)
                self._say(
                    told.RunResumed(
                        at=at,
                        run=self._coordinator.rules.run,
                        round=event.round,
                        num_rounds=event.num_rounds,
                        version=state.version,
                    )
                )
            case notices.RunRewound():
                self._version, self._completed = event.version, event.round - 1
                self._keep_version(event.version)
                self._say(told.RunRewound(at=at, round=event.round, version=event.version))
            case notices.RunFinished():
                self._tell_round(at)
                self._say(told.RunEnded(at=at, rounds=event.rounds, status=status_of(event), why=event.why))

    def _tell_answer(self, event: notices.TaskSucceeded, replies: Mapping[str, Reply]) -> None:
        task = self._forget((event.round, event.kind, event.client), *replies)
        if task is None or told.TaskAnswered not in self._followed:
            return
        reply = replies.get(task.id, _NO_REPLY)
        added_up = reply.partial is not None and reply.content is None
        self._say(
            told.TaskAnswered(
                at=event.at,
                round=event.round,
                kind=str(event.kind),
                client=event.client,
                task=task.id,
                version=task.version,
                seconds=event.at - task.at,
                bytes=self._size_sent(task) if added_up else self._size(reply.content),
                num_examples=reply.num_examples,
                loss=reply.loss if task.kind is Kind.EVALUATE else None,
                metrics={**reply.metrics},
            )
        )

    def _tell_failure(self, event: notices.TaskFailed, replies: Mapping[str, Reply]) -> None:
        task = self._forget((event.round, event.kind, event.client), *replies)
        self._say(
            told.TaskFailed(
                at=event.at,
                round=event.round,
                kind=str(event.kind),
                client=event.client,
                task="" if task is None else task.id,
                version=None if task is None else task.version,
                seconds=0.0 if task is None else event.at - task.at,
                reason=str(event.reason),  # type: ignore[arg-type]  # mypy does not see that a FailureKind is one of them
                text=event.text,
                detail=event.detail,
            )
        )

    def _tell_exchange(self, event: notices.ExchangeClosed, void: str) -> None:
        self._say(
            told.ExchangeClosed(
                at=event.at,
                round=event.round,
                kind=str(event.kind),
                results=event.results,
                failures=event.failures,
                seconds=event.seconds,
                loss=_number(event.loss),
                metrics={**event.metrics},
                void=void,
                note=event.note.removeprefix(void).removeprefix("\n"),
            )
        )

    def _tell_version(self, at: float, number: int) -> None:
        version = self._coordinator.state.version
        if version is None or version == self._version:
            return
        self._version = version
        if told.VersionMade in self._followed:
            self._keep_version(version)
            size = self._size(self._model.name(version))
            self._say(told.VersionMade(at=at, round=number, version=version, bytes=size))

    def _keep_version(self, version: int | None) -> None:
        """Keeps the version of the next event open, so that observers can read it."""
        if self._versions is not None and version is not None:
            with contextlib.suppress(StoreError):  # whoever reads it says what is wrong with it
                self._versions.put(version, self._model.contents.open(self._model.name(version)))

    def _tell_round(self, at: float) -> None:
        """Tells of the round that has been completed since the last time, if one has."""
        state, history = self._coordinator.state, self._history
        if state.completed <= self._completed:
            return
        self._completed = number = state.completed
        if told.RoundClosed not in self._followed:
            return
        self._say(
            told.RoundClosed(
                at=at,
                round=number,
                version=state.version,
                void=state.void_rounds > 0,
                loss=_number(_last_of(history.losses_distributed, number)),
                metrics=_metrics_of(history.metrics_distributed, number),
                fit_metrics=_metrics_of(history.metrics_distributed_fit, number),
                central_loss=_number(_last_of(history.losses_centralized, number)),
                central_metrics=_metrics_of(history.metrics_centralized, number),
            )
        )

    # ---- tasks and their sizes

    def _tell_task(self, task: Task, *, again: bool) -> None:
        if told.TaskSent not in self._followed:
            return
        self._say(
            told.TaskSent(
                at=self._at,
                round=task.round,
                kind=str(task.name),
                client=task.client,
                task=task.id,
                version=task.version,
                bytes=self._size_sent(task),
                again=again,
            )
        )

    def _remember(self, task: Task) -> None:
        self._under_way.setdefault(_key(task), []).append(task)

    def _forget(self, asked: _Key, *names: str) -> Task | None:
        """The task that this client is at, which is over: the one of these names, where it was asked twice."""
        tasks = self._under_way.get(asked)
        if not tasks:
            return None
        place = next((place for place, task in enumerate(tasks) if task.id in names), 0) if len(tasks) > 1 else 0
        task = tasks.pop(place)
        if not tasks:
            del self._under_way[asked]
        return task

    def _size_sent(self, task: Task) -> int:
        """Bytes that travel with a task."""
        names = self._model.given(task).values()
        if not self._sizes.keys() >= {*names}:
            self._sizes = {name: self._size(name) for name in names}  # the cohort's tasks come one after another
        return sum(self._sizes[name] for name in names)

    def _size(self, name: str | None) -> int:
        if name is None:
            return 0
        with contextlib.suppress(StoreError):  # whoever reads it says what is wrong with it
            content = self._model.contents.open(name)
            content.close()
            return content.size
        return 0

    def _say(self, event: told.Event) -> None:
        for fold in self._folds:
            fold(event)
        if self._audience is None:
            return
        if self._holds:
            self._held.append(event)
        else:
            self._audience.tell(event)


_NO_REPLY = Reply()


def _replies(event: Input) -> dict[str, Reply]:
    match event:
        case Replied(task, reply):
            return {task: reply}
        case Reported(replies):
            return dict(replies)
        case _:
            return {}


def _key(task: Task) -> _Key:
    return task.round, task.name, task.client


def _number(value: object) -> float | None:
    """A loss; what a strategy returns in its place that is no number is in the History alone."""
    return value if isinstance(value, (int, float)) else None


def _last_of(series: Series, number: int) -> object:
    """What the History has of this round; None for nothing."""
    return series[-1][1] if series and series[-1][0] == number else None


def _metrics_of(metrics: Mapping[str, Series], number: int) -> dict[str, object]:
    return {name: series[-1][1] for name, series in metrics.items() if series[-1][0] == number}
