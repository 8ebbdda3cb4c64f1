"""The rounds of a run, without I/O. Knows no arrays, no clock, no clients' code and no owner's code.

The rules of this file:

1. Whatever happened comes in through `handle(input, at)`; whatever should happen goes out as a list of commands. `at` is
   run time in seconds and is told, never asked.
2. The same inputs in the same order give the same commands: replay and resume are nothing but feeding a journal.
3. What the owner's code answers is an input like any other. While a question is open (CHOOSING, STEPPING, TESTING,
   SUMMARIZING and the start of INIT), its answer is the only input that moves the machine on; the others are noted.
4. Everything still owed after a crash can be read from the state: `owed()`.

A run is: version 0 (from the strategy, else from one client) → central evaluation → for each round: choose, fit, step,
central evaluation, choose, evaluate, summarize. `TRANSITIONS` below is the whole machine; docs/architecture.md draws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from statistics import median

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from umbel.pace import Pace
from umbel.population import Population
from umbel.rounds import events
from umbel.rounds.messages import (
    Cancel,
    Choose,
    Chosen,
    Command,
    Discard,
    Dispatch,
    Evaluate,
    Evaluated,
    Failed,
    Failure,
    FailureKind,
    Initialize,
    Initialized,
    Input,
    Joined,
    Kind,
    Left,
    Lost,
    Member,
    Populated,
    Publish,
    Replied,
    Reply,
    Reported,
    Resumed,
    Settle,
    Started,
    Step,
    Stepped,
    Stopped,
    Summarize,
    Summarized,
    Task,
    Ticked,
    Verdict,
)
from umbel.until import improves

__all__ = ["TRANSITIONS", "Before", "Coordinator", "Phase", "Rules", "State"]

RESUME_TIME = 15.0  # seconds that clients have at least, after a resume, to come back with an answer
NORMS = 1000  # of accepted updates, the newest, whose median is the measure for those to come
FAR = 10.0  # times that median
MAX_VOID = 3  # rounds in a row whose step was given up, before the run ends
SEED_RETRY = 10.0  # seconds before clients that could not give parameters are asked again
EMPTY_GRACE = 2.0  # seconds in which others may come, after all who are there have said that they have no parameters
MOST_EMPTY = 100  # clients that say so speak for all the others


class Phase(StrEnum):
    NEW = "new"
    INIT = "init"  # question: has the strategy parameters?
    SEEDING = "seeding"  # one client is asked for its parameters, or none is there to ask
    WAITING = "waiting"  # too few clients, or a void attempt backs off
    CHOOSING = "choosing"  # question: whom?
    FIT = "fit"  # the cohort trains
    STEPPING = "stepping"  # question: what do the updates make of the model?
    TESTING = "testing"  # question: how good is it by the owner's own data?
    EVALUATE = "evaluate"  # the cohort evaluates
    SUMMARIZING = "summarizing"  # question: what do the evaluations say together?
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is fixed for a run. `min_available` clients must be there before anyone is chosen."""

    run: str
    min_available: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class Before:
    """What the run goes back to where its newest version is lost: the version before, and what was true when it ended."""

    version: int
    completed: int
    progress: float | None
    progress_round: int
    best: float | None
    best_version: int | None
    best_round: int
    norms: tuple[float, ...]


@dataclass(slots=True)
class State:
    """Everything the coordinator knows. Plain values only: a store writes it as it is."""

    num_rounds: int
    phase: Phase = Phase.NEW
    pool: Population = field(default_factory=Population)  # present clients
    round: int = 0
    kind: Kind = Kind.PARAMETERS  # of the open exchange
    attempt: int = 0
    version: int | None = None  # newest version of the model
    needed: int = 0  # clients that must be there before the next choice
    opened_at: float = 0.0
    wake_at: float | None = None
    tasks: list[Task] = field(default_factory=list)  # of the open exchange, by index
    wanted: dict[str, int] = field(default_factory=dict)  # id → place in `tasks` of those still unanswered, in task order
    results: dict[int, Reply] = field(default_factory=dict)  # by place in `tasks`
    failures: dict[int, Failure] = field(default_factory=dict)
    carried: list[Task] = field(default_factory=list)  # fit tasks of earlier rounds that are still at work
    ahead: list[tuple[Task, Reply]] = field(default_factory=list)  # and the answers of those that are not
    refused: dict[str, None] = field(default_factory=dict)  # clients without parameters to give
    completed: int = 0  # rounds
    measured: dict[str, float | None] = field(default_factory=dict)  # the watched metrics of this round; None: no number
    progress: float | None = None  # the best of the metric that may end the run, and the round that had it
    progress_round: int = 0
    best: float | None = None  # the best of the metric by which a version is kept, its version and its round
    best_version: int | None = None
    best_round: int = 0
    ended: events.RunFinished | None = None  # how, once it is
    void_rounds: int = 0  # in a row, up to now
    norms: list[float] = field(default_factory=list)  # of accepted updates, where the limit is made from them
    empty: dict[str, None] = field(default_factory=dict)  # the refused ones who have said that they have no parameters
    everybody: bool = False  # whether all clients that there ever are have come
    before: Before | None = None  # the newest version
    losses: int = 0  # so often has something been lost

    @property
    def contents(self) -> frozenset[str]:
        """Names of the updates and own parameters that are still needed."""
        replies = [*self.results.values(), *(reply for _, reply in self.ahead)]
        tasks = [*self.tasks, *self.carried]
        names = (*(reply.content for reply in replies), *(task.content for task in tasks))
        return frozenset(name for name in names if name is not None)

    @property
    def versions(self) -> frozenset[int]:
        """The versions of the model that are still needed: the newest, the best, and those that tasks have started from."""
        working = (task for place, task in enumerate(self.tasks) if place not in self.failures)
        tasks = [*working, *self.carried, *(task for task, _ in self.ahead)]
        found = (self.version, self.best_version, *(task.version for task in tasks))
        return frozenset(version for version in found if version is not None)

    @property
    def here(self) -> Before | None:
        """What is true now, for when the run goes back to the newest version; None without one."""
        if self.version is None:
            return None
        best = self.best, self.best_version, self.best_round
        return Before(self.version, self.completed, self.progress, self.progress_round, *best, tuple(self.norms))

    @property
    def spare(self) -> frozenset[int]:
        """The version that is kept for the case that the newest is lost."""
        return frozenset() if self.before is None else frozenset({self.before.version})


# What each input does in each phase: the name of the `Coordinator` method that handles it. `_nothing` means that the input
# is expected and changes nothing; an input that is missing here cannot happen.
_ALWAYS: dict[type, str] = {
    Joined: "_joined",
    Populated: "_joined",
    Left: "_left",
    Replied: "_late",
    Reported: "_late_report",
    Failed: "_late_failure",
    Ticked: "_nothing",
    Resumed: "_extend",
    Stopped: "_stop",
    Lost: "_lost",
}
_OPEN: dict[type, str] = _ALWAYS | {
    Joined: "_open_joined",
    Populated: "_open_joined",
    Left: "_open_left",
    Replied: "_open_replied",
    Reported: "_open_reported",
    Failed: "_open_failed",
    Ticked: "_open_ticked",
}
TRANSITIONS: Mapping[Phase, Mapping[type, str]] = {
    Phase.NEW: {Started: "_start"},
    Phase.INIT: _ALWAYS | {Initialized: "_initialized"},
    Phase.SEEDING: _ALWAYS
    | {
        Joined: "_seed_joined",
        Populated: "_seed_joined",
        Left: "_seed_left",
        Replied: "_seed_replied",
        Reported: "_seed_reported",
        Failed: "_seed_failed",
        Ticked: "_seed_ticked",
    },
    Phase.WAITING: _ALWAYS | {Joined: "_waiting_joined", Populated: "_waiting_joined", Ticked: "_waiting_ticked"},
    Phase.CHOOSING: _ALWAYS | {Chosen: "_chosen"},
    Phase.FIT: _OPEN,
    Phase.STEPPING: _ALWAYS | {Stepped: "_stepped"},
    Phase.TESTING: _ALWAYS | {Evaluated: "_evaluated"},
    Phase.EVALUATE: _OPEN,
    Phase.SUMMARIZING: _ALWAYS | {Summarized: "_summarized"},
    Phase.DONE: _ALWAYS | {Stopped: "_nothing"},
}


class Coordinator:
    """The state machine of one run."""

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules = rules
        self.state = state

    @property
    def done(self) -> bool:
        return self.state.phase is Phase.DONE

    @property
    def wake_at(self) -> float | None:
        """Run time at which a `Ticked` is due; None while nothing waits for time."""
        return self.state.wake_at

    @property
    def between_rounds(self) -> bool:
        """Whether everything before this moment is in the model, the history and the state: nothing is under way."""
        s = self.state
        return s.phase is Phase.DONE or (
            s.phase in (Phase.WAITING, Phase.CHOOSING) and s.kind is Kind.FIT and s.attempt == 0
        )

    @property
    def pending(self) -> tuple[Task, ...]:
        """Tasks whose answer is still wanted, in task order: of the open exchange, and those carried over."""
        return (*self._wanted_tasks(), *self.state.carried)

    def asked(self, task_id: str) -> Task | None:
        """The task of this id, where its answer is still wanted."""
        place = self.state.wanted.get(task_id)
        return self._carried(task_id) if place is None else self.state.tasks[place]

    @property
    def waiting_for(self) -> str:
        """Whom the run waits for, in a line; "" while it waits for no client."""
        s = self.state
        match s.phase:
            case Phase.WAITING | Phase.SEEDING if not s.wanted:
                return f"clients: {len(s.pool)} of {max(s.needed, 1)} available" if len(s.pool) < s.needed else ""
            case Phase.FIT | Phase.EVALUATE | Phase.SEEDING:
                tasks = [s.tasks[place] for place in islice(s.wanted.values(), 10)]
                names = [task.client + ("" if task.client in s.pool else " (gone)") for task in tasks]
                more = f" and {len(s.wanted) - 10} more" if len(s.wanted) > 10 else ""
                return f"{s.kind} of round {s.round} from {', '.join(names)}{more}"
            case _:
                return ""

    def handle(self, event: Input, at: float) -> list[Command]:
        """Takes one input and answers with what should happen now, in order."""
        name = TRANSITIONS[self.state.phase].get(type(event))
        if name is None:
            raise RuntimeError(f"{type(event).__name__} cannot happen in phase {self.state.phase}")
        rule: Callable[[Input, float], list[Command]] = getattr(self, name)
        return rule(event, at)

    def owed(self) -> list[Command]:
        """What a new process has to do before it goes on: the open question, every answer still wanted, or the last word."""
        ended = self.state.ended
        return [*(Dispatch(task) for task in self.pending), *self._question(), *([] if ended is None else [Publish(ended)])]

    def _question(self) -> list[Command]:
        match self.state.phase:
            case Phase.INIT:
                return [Initialize()]
            case Phase.CHOOSING:
                return [self._choose()]
            case Phase.STEPPING:
                return [self._step()]
            case Phase.TESTING:
                return [self._evaluate()]
            case Phase.SUMMARIZING:
                return [self._summarize()]
            case _:
                return []

    # ---- the start

    def _start(self, _: Started, at: float) -> list[Command]:
        self.state.phase = Phase.INIT
        return [Publish(events.RunStarted(at, self.state.num_rounds)), Initialize()]

    def _initialized(self, event: Initialized, at: float) -> list[Command]:
        if event.given:
            self.state.version = 0
            return [Publish(events.ModelInitialized(at, None)), *self._ask_evaluate()]
        s = self.state
        s.phase, s.kind, s.needed = Phase.SEEDING, Kind.PARAMETERS, self.rules.min_available
        return self._seed(at)

    def _seed(self, at: float) -> list[Command]:
        """Asks the next client for its parameters, once enough clients are there to make the choice repeatable."""
        s = self.state
        self._forget()
        if self._nobody_has_parameters():
            s.wake_at = at + EMPTY_GRACE
            return self._begin_empty() if s.everybody or len(s.empty) >= MOST_EMPTY else []
        enough = len(s.pool) >= s.needed
        first = next((client for client in s.pool if client not in s.refused), None) if enough else None
        if first is None:
            able = len(s.pool) - sum(client in s.pool for client in s.refused)
            s.wake_at = at + SEED_RETRY if s.refused else None
            return [Publish(events.WaitingForClients(at, 0, able, max(s.needed, len(s.pool) + 1)))]
        s.attempt += 1
        return self._open(Kind.PARAMETERS, (Member(first),), at)

    def _seed_joined(self, event: Joined | Populated, at: float) -> list[Command]:
        joined = self._joined(event, at)
        if isinstance(event, Joined):
            self.state.refused.pop(event.client, None)
            self.state.empty.pop(event.client, None)
        return joined if self.state.wanted else joined + self._seed(at)

    def _seed_left(self, event: Left, at: float) -> list[Command]:
        commands = self._left(event, at)
        if any(task.client == event.client for task in self.pending):
            return commands + self._seed_again(at, FailureKind.LEFT)
        return commands + self._seed(at) if not self.state.wanted and self._nobody_has_parameters() else commands

    def _seed_replied(self, event: Replied, at: float) -> list[Command]:
        return self._reply(event, at) + self._seeded()

    def _seed_reported(self, event: Reported, at: float) -> list[Command]:
        return self._report(event, at) + self._seeded()

    def _seeded(self) -> list[Command]:
        if not self.state.results:
            return []
        self.state.phase, self.state.wake_at = Phase.STEPPING, None
        return [self._step()]

    def _seed_failed(self, event: Failed, at: float) -> list[Command]:
        commands = self._failure(event, at)
        if self.state.tasks and not self.state.wanted:
            client = self.state.tasks[0].client
            self.state.refused[client] = None
            if event.failure.kind is FailureKind.EMPTY:
                self.state.empty[client] = None
            commands += self._seed(at)
        return commands

    def _seed_ticked(self, _: Ticked, at: float) -> list[Command]:
        if self.state.wanted:
            return self._seed_again(at, FailureKind.LATE)
        if self._nobody_has_parameters():
            return self._begin_empty()
        self.state.refused = dict(self.state.empty)
        return self._seed(at)

    def _seed_again(self, at: float, kind: FailureKind) -> list[Command]:
        """Gives up on the client that was asked and asks the next one."""
        self.state.refused[self.state.tasks[0].client] = None
        return [*self._cancel_pending(at, kind), *self._seed(at)]

    def _nobody_has_parameters(self) -> bool:
        """Whether everybody who is there has said so, or so many that it holds for all. Who has raised has said nothing."""
        s = self.state
        said = sum(client in s.pool for client in s.empty)
        return len(s.pool) >= s.needed and said >= min(max(len(s.pool), 1), MOST_EMPTY)

    def _begin_empty(self) -> list[Command]:
        """The run begins with a model without arrays: a step with no results."""
        self.state.phase, self.state.wake_at = Phase.STEPPING, None
        return [self._step()]

    # ---- the pool

    def _joined(self, event: Joined | Populated, at: float) -> list[Command]:
        pool = self.state.pool
        before = len(pool)
        if isinstance(event, Joined):
            pool.add(event.client)
            return [Publish(events.ClientJoined(at, event.client, len(pool)))] if len(pool) > before else []
        self.state.everybody = True
        pool.add_range(event.numbered)
        for name in event.names:
            pool.add(name)
        return [Publish(events.PopulationJoined(at, len(pool) - before, len(pool)))] if len(pool) > before else []

    def _left(self, event: Left, at: float) -> list[Command]:
        s = self.state
        if event.client not in s.pool:
            return []
        s.pool.remove(event.client)
        return [Publish(events.ClientLeft(at, event.client, len(s.pool), event.why))]

    def _waiting_joined(self, event: Joined | Populated, at: float) -> list[Command]:
        return self._joined(event, at) + self._choose_if_enough(at)

    def _waiting_ticked(self, _: Ticked, at: float) -> list[Command]:
        self.state.wake_at = None
        return self._choose_if_enough(at)

    def _open_joined(self, event: Joined | Populated, at: float) -> list[Command]:
        return self._joined(event, at) + self._progress(at)

    def _open_left(self, event: Left, at: float) -> list[Command]:
        return self._left(event, at) + self._progress(at)

    # ---- choosing

    def _begin_round(self, at: float) -> list[Command]:
        s = self.state
        if s.completed >= s.num_rounds:
            return self._finish(at, "all rounds done")
        s.round, s.kind, s.attempt, s.needed = s.completed + 1, Kind.FIT, 0, self.rules.min_available
        return [Publish(events.RoundStarted(at, s.round, s.num_rounds)), *self._wait(at)]

    def _wait(self, at: float) -> list[Command]:
        s = self.state
        s.phase = Phase.WAITING
        self._forget()
        if len(s.pool) < s.needed:
            return [Publish(events.WaitingForClients(at, s.round, len(s.pool), s.needed))]
        return self._choose_if_enough(at)

    def _choose_if_enough(self, at: float) -> list[Command]:
        s = self.state
        if len(s.pool) < s.needed or (s.wake_at is not None and at < s.wake_at):
            return []
        s.phase, s.wake_at = Phase.CHOOSING, None
        return [self._choose()]

    def _choose(self) -> Choose:
        s = self.state
        assert s.version is not None
        busy = [task.client for task in s.carried]
        return Choose(s.round, s.kind, s.attempt, s.version, s.pool.present(without=busy), len(busy))

    def _chosen(self, event: Chosen, at: float) -> list[Command]:
        s = self.state
        goes_on = s.kind is Kind.FIT and bool(s.carried or s.ahead)
        if event.needs and not goes_on:
            s.needed = max(event.needs, len(s.pool) + 1)
            return self._wait(at)
        if not event.members and not goes_on:  # the strategy skips this exchange
            return self._ask_evaluate() if s.kind is Kind.FIT else self._end_round(at)
        s.phase = Phase.FIT if s.kind is Kind.FIT else Phase.EVALUATE
        return self._open(s.kind, event.members, at)

    def _open(self, kind: Kind, members: tuple[Member, ...], at: float) -> list[Command]:
        s = self.state
        carried = self._taken_up() if kind is Kind.FIT else []
        limit = self._max_norm() if kind is Kind.FIT else UNSET
        again = f"r{s.losses}" if s.losses else ""  # a round that is done again has tasks of its own
        exchange = f"{self.rules.run}.{s.round}.{kind}.{s.attempt}{again}"
        new = [
            Task(
                id=f"{exchange}.{index}",
                round=s.round,
                kind=kind,
                index=index,
                cohort=len(members),
                client=member.client,
                version=s.version,
                config=member.config,
                content=member.content,
                at=at,
                max_norm=limit,
            )
            for index, member in enumerate(members)
        ]
        s.tasks = [*(task for task, _ in carried), *new]
        s.results = {place: reply for place, (_, reply) in enumerate(carried) if reply is not None}
        s.wanted = {task.id: place for place, task in enumerate(s.tasks) if place not in s.results}
        s.failures, s.opened_at = {}, at
        s.wake_at = None if self.rules.pace.deadline is None else at + self.rules.pace.deadline
        clients = tuple(member.client for member in members)
        chosen = events.CohortChosen(at, s.round, kind, s.attempt, clients, len(s.pool))
        return [Publish(chosen), *(Dispatch(task) for task in new), *self._progress(at)]

    def _max_norm(self) -> float | UnsetType:
        """The largest norm for updates of this round, infinite before there is anything to compare with; unset for none."""
        limit = self.rules.pace.max_update_norm
        if limit is None:
            return UNSET
        if isinstance(limit, str):
            return FAR * median(self.state.norms) if self.state.norms else math.inf
        return float(limit)

    def _taken_up(self) -> list[tuple[Task, Reply | None]]:
        """The carried tasks, with the answers of those that have one; they are the open exchange's from now on."""
        s = self.state
        both: list[tuple[Task, Reply | None]] = [*s.ahead, *((task, None) for task in s.carried)]
        s.ahead, s.carried = [], []
        return sorted(both, key=lambda entry: (entry[0].round, entry[0].id.split(".")[-2], entry[0].index))

    # ---- an open exchange

    def _open_replied(self, event: Replied, at: float) -> list[Command]:
        return self._reply(event, at) + self._progress(at)

    def _open_reported(self, event: Reported, at: float) -> list[Command]:
        return self._report(event, at) + self._progress(at)

    def _report(self, event: Reported, at: float) -> list[Command]:
        s = self.state
        if any(task not in s.wanted for task, _ in event.replies):
            return self._late_report(event, at)
        commands: list[Command] = []
        for name, reply in event.replies:
            place = s.wanted.pop(name)
            task = s.tasks[place]
            s.results[place] = reply
            commands.append(Publish(events.TaskSucceeded(at, task.round, task.kind, task.client, reply.num_examples)))
        return commands

    def _open_failed(self, event: Failed, at: float) -> list[Command]:
        return self._failure(event, at) + self._progress(at)

    def _open_ticked(self, _: Ticked, at: float) -> list[Command]:
        s = self.state
        return [] if s.wake_at is None or at < s.wake_at else self._close(at, FailureKind.LATE)

    def _reply(self, event: Replied, at: float) -> list[Command]:
        place = self.state.wanted.pop(event.task, None)
        if place is None:
            return self._late(event, at)
        task = self.state.tasks[place]
        self.state.results[place] = event.reply
        return [
            Settle(task.id, Verdict.ACCEPTED),
            Publish(events.TaskSucceeded(at, task.round, task.kind, task.client, event.reply.num_examples)),
        ]

    def _failure(self, event: Failed, at: float) -> list[Command]:
        place = self.state.wanted.pop(event.task, None)
        if place is None:
            return self._late_failure(event, at)
        task = self.state.tasks[place]
        self.state.failures[place] = event.failure
        return self._noted(event, task, at)

    def _noted(self, event: Failed, task: Task, at: float) -> list[Command]:
        verdict = Verdict.REJECTED if event.failure.kind is FailureKind.REJECTED else Verdict.NOTED
        why = "" if event.failure.kind is FailureKind.EMPTY else event.failure.text  # nothing is wrong
        return [Settle(task.id, verdict, why), self._failed_event(task, event.failure, at)]

    def _late(self, event: Replied, at: float) -> list[Command]:
        carried = self._carried(event.task)
        if carried is not None:
            return [Settle(event.task, Verdict.ACCEPTED), self._answered_ahead(carried, event.reply, at)]
        s = self.state
        counted = {task.id: s.results[place] for place, task in enumerate(s.tasks) if place in s.results}
        counted |= {task.id: reply for task, reply in s.ahead}
        if event.task in counted:
            settle = Settle(event.task, Verdict.ALREADY)
        else:
            settle = Settle(event.task, Verdict.STALE, "the round closed before this reply came")
        content = event.reply.content
        if content is None or (event.task in counted and content == counted[event.task].content):
            return [settle]
        return [Discard(content), settle]

    def _late_report(self, event: Reported, at: float) -> list[Command]:
        carried = [self._carried(name) for name, _ in event.replies]
        pairs = list(zip(carried, event.replies, strict=True))
        if any(carried):
            return [self._answered_ahead(task, reply, at) for task, (_, reply) in pairs if task is not None]
        s = self.state
        counted = {reply.content for reply in (*s.results.values(), *(reply for _, reply in s.ahead))}
        contents = [reply.content for _, reply in event.replies]
        return [Discard(content) for content in contents if content is not None and content not in counted]

    def _carried(self, task_id: str) -> Task | None:
        return next((task for task in self.state.carried if task.id == task_id), None)

    def _answered_ahead(self, task: Task, reply: Reply, at: float) -> Publish:
        """Keeps an answer that comes between two rounds for the next."""
        self.state.carried.remove(task)
        self.state.ahead.append((task, reply))
        return Publish(events.TaskSucceeded(at, task.round, task.kind, task.client, reply.num_examples))

    def _late_failure(self, event: Failed, at: float) -> list[Command]:
        carried = self._carried(event.task)
        if carried is not None:
            self.state.carried.remove(carried)
            return self._noted(event, carried, at)
        return [Settle(event.task, Verdict.STALE, event.failure.text)]

    def _progress(self, at: float) -> list[Command]:
        """Closes the exchange if nothing is left to wait for."""
        s, pace = self.state, self.rules.pace
        if s.phase not in (Phase.FIT, Phase.EVALUATE):
            return []
        if not s.wanted or (s.kind is Kind.FIT and pace.goal is not None and len(s.results) >= pace.goal):
            return self._close(at, FailureKind.LATE)
        if any(s.tasks[index].client in s.pool for index in s.wanted.values()):
            return []
        # Whoever is still wanted has left. Enough answers: close with them. Not one answer: the others' work is not lost
        # by waiting for their return, so wait until a new cohort could be chosen.
        if s.kind is Kind.EVALUATE or len(s.results) >= max(pace.quorum, 1):
            return self._close(at, FailureKind.LEFT)
        if len(s.pool) >= max(s.needed, 1):
            return self._again(at, FailureKind.LEFT)
        return []

    def _close(self, at: float, why: FailureKind) -> list[Command]:
        s, pace = self.state, self.rules.pace
        enough = len(s.results) >= pace.quorum
        carries = pace.carry_over and s.kind is Kind.FIT
        commands = self._carry(at) if carries else self._cancel_pending(at, why)
        s.wake_at = None
        if s.kind is Kind.EVALUATE:
            s.phase = Phase.SUMMARIZING
            return [*commands, self._summarize()]
        if enough:
            s.phase = Phase.STEPPING
            return [*commands, self._step()]
        if s.attempt < pace.retries:
            return commands + self._again(at, why)
        tried = f"round {s.round} got {len(s.results)} of {pace.quorum} updates in {s.attempt + 1} attempts"
        return commands + self._finish(at, tried, error="QuorumNotMet")

    def _carry(self, at: float) -> list[Command]:
        """Takes as many answers as make a round, and keeps the rest, and the tasks still at work, for the next.

        Who has left, and what started from too old a version, is given up.
        """
        s, pace = self.state, self.rules.pace
        commands: list[Command] = []
        for task in self._wanted_tasks():
            place = s.wanted.pop(task.id)
            age = s.round - task.round + 1
            if task.client not in s.pool:
                failure = Failure(FailureKind.LEFT, "the client went away")
            elif pace.max_staleness is not None and age > pace.max_staleness:
                failure = Failure(FailureKind.LATE, f"it started {age} rounds ago; max_staleness is {pace.max_staleness}")
            else:
                s.carried.append(task)
                continue
            s.failures[place] = failure
            commands += [Cancel(task, failure.text), self._failed_event(task, failure, at)]
        answered = [(s.tasks[place], reply) for place, reply in sorted(s.results.items())]
        count = pace.goal if len(answered) >= pace.quorum else 0  # too few stay for the next attempt
        used, s.ahead = answered[:count], answered[count:]
        failed = [(s.tasks[place], failure) for place, failure in sorted(s.failures.items())]
        # numbered anew: the order in which they are folded is that of their start
        s.tasks = [replace(task, index=i, cohort=len(used)) for i, (task, _) in enumerate(used)]
        s.tasks += [task for task, _ in failed]
        s.results = {i: reply for i, (_, reply) in enumerate(used)}
        s.failures = {len(used) + i: failure for i, (_, failure) in enumerate(failed)}
        return commands

    def _again(self, at: float, why: FailureKind) -> list[Command]:
        """The attempt is void: nothing of it counts, and after a pause the round chooses anew."""
        s = self.state
        commands = self._cancel_pending(at, why)
        commands += [Discard(r.content) for r in s.results.values() if r.content is not None]
        s.attempt += 1
        s.wake_at = at + min(2.0 ** min(s.attempt - 1, 3), 5.0)
        return commands + self._wait(at)

    def _cancel_pending(self, at: float, why: FailureKind) -> list[Command]:
        """Every answer still wanted is wanted no longer, and counts as a failure."""
        text = {
            FailureKind.LATE: f"no answer after {at - self.state.opened_at:.1f} s",
            FailureKind.LEFT: "the client went away",
        }[why]
        commands: list[Command] = []
        for task in self._wanted_tasks():
            place = self.state.wanted[task.id]
            gone = task.client not in self.state.pool
            failure = Failure(FailureKind.LEFT, "the client went away") if gone else Failure(why, text)
            self.state.failures[place] = failure
            commands += [Cancel(task, "the round closed"), self._failed_event(task, failure, at)]
        self.state.wanted = {}
        return commands

    # ---- questions and their answers

    def _step(self) -> Step:
        s = self.state
        return Step(s.round, s.version, self._results(), self._failures())

    def _stepped(self, event: Stepped, at: float) -> list[Command]:
        s = self.state
        if event.version != s.version:
            s.before = s.here
        s.version = event.version
        if s.kind is Kind.PARAMETERS:
            source = s.tasks[0].client if s.tasks else ""
            return [Publish(events.ModelInitialized(at, source)), *self._ask_evaluate()]
        s.void_rounds = s.void_rounds + 1 if event.void else 0
        if self.rules.pace.max_update_norm == "auto" and not event.void:
            norms = [reply.norm for _, reply in self._results() if reply.norm is not UNSET and reply.norm > 0]
            s.norms = [*s.norms, *norms][-NORMS:]
        note = "\n".join(text for text in (event.void, event.note) if text)
        closed = self._closed_event(at, None, event.metrics, note)
        if s.void_rounds < MAX_VOID:
            return [closed, *self._ask_evaluate()]
        why = f"{MAX_VOID} rounds in a row were void, round {s.round} the last of them: {event.void}"
        return [closed, *self._finish(at, why, error="NotFinite")]

    def _ask_evaluate(self) -> list[Command]:
        s = self.state
        s.phase, s.wake_at = Phase.TESTING, None
        self._forget()
        return [self._evaluate()]

    def _evaluate(self) -> Evaluate:
        assert self.state.version is not None
        return Evaluate(self.state.round, self.state.version)

    def _evaluated(self, event: Evaluated, at: float) -> list[Command]:
        s = self.state
        commands: list[Command] = []
        if event.loss is not None:
            commands.append(Publish(events.CentrallyEvaluated(at, s.round, event.loss, event.metrics)))
        if s.round == 0:
            return commands + self._begin_round(at)
        s.measured = {} if event.loss is None else self._measured(event.loss, event.metrics)
        s.kind, s.attempt, s.needed = Kind.EVALUATE, 0, self.rules.min_available
        return commands + self._wait(at)

    def _summarize(self) -> Summarize:
        return Summarize(self.state.round, self._results(), self._failures())

    def _summarized(self, event: Summarized, at: float) -> list[Command]:
        central = {name: value for name, value in self.state.measured.items() if value is not None}
        self.state.measured = {**self._measured(event.loss, event.metrics), **central}
        notes = (event.note, self._unseen(event.loss, event.metrics))
        note = "\n".join(text for text in notes if text)
        return [self._closed_event(at, event.loss, event.metrics, note), *self._end_round(at)]

    def _unseen(self, loss: object, metrics: Mapping[str, object]) -> str:
        """Says which watched metric no evaluation has reported so far; "" where there is none, or no evaluation."""
        s, pace = self.state, self.rules.pace
        until = pace.until.metric if pace.until is not None and pace.until.watches and s.progress is None else None
        best = pace.keep_best if s.best is None else None
        reported = [*(["loss"] if loss is not None else []), *metrics]
        said = [
            f"{keyword} watches {name!r}, which no evaluation has reported so far; they report {', '.join(reported)}"
            for keyword, name in (("until", until), ("keep_best", best))
            if name is not None and s.measured.get(name) is None and reported
        ]
        return "; ".join(said)

    def _measured(self, loss: object, metrics: Mapping[str, object]) -> dict[str, float | None]:
        """What an evaluation has found of the watched metrics; None for what is no finite number."""
        found = {name: loss if name == "loss" else metrics.get(name) for name in self.rules.pace.watched}
        return {
            name: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
            for name, value in found.items()
        }

    # ---- the end

    def _end_round(self, at: float) -> list[Command]:
        s, pace = self.state, self.rules.pace
        s.completed = s.round
        value = s.measured.get(pace.keep_best or "")
        if value is not None and pace.better(value, s.best):
            s.best, s.best_version, s.best_round = value, s.version, s.round
        why = self._reached(at)
        s.measured = {}
        return self._finish(at, why) if why else self._begin_round(at)

    def _reached(self, at: float) -> str:
        """What ends the run with this round; "" for nothing."""
        s, until = self.state, self.rules.pace.until
        if until is None:
            return ""
        if until.metric in s.measured:  # there was an evaluation in this round
            value = s.measured[until.metric]
            if value is not None and improves(value, s.progress, highest=until.highest, by=until.min_delta):
                s.progress, s.progress_round = value, s.round
            why = "" if value is None else until.reached(value)
            if why:
                return why
            waited = s.round - s.progress_round
            if until.patience is not None and waited >= until.patience:
                if s.progress is None:
                    return f"{until.metric} has been no finite number for {waited} rounds"
                return f"{until.metric} has not become better than {s.progress:g} for {waited} rounds"
        return f"{until.seconds:g} s have passed" if until.seconds is not None and at >= until.seconds else ""

    def _stop(self, event: Stopped, at: float) -> list[Command]:
        commands = [Cancel(task, event.why) for task in self._wanted_tasks()]
        return [*commands, *self._finish(at, event.why, stopped=True)]

    def _finish(self, at: float, why: str, *, error: str = "", stopped: bool = False) -> list[Command]:
        s = self.state
        s.phase, s.wake_at = Phase.DONE, None
        self._forget()
        commands: list[Command] = [Cancel(task, why) for task in s.carried]
        commands += [Discard(reply.content) for _, reply in s.ahead if reply.content is not None]
        s.carried, s.ahead, s.before = [], [], None
        s.ended = events.RunFinished(at, s.completed, why, error, stopped)
        return [*commands, Publish(s.ended)]

    def _extend(self, event: Resumed, at: float) -> list[Command]:
        s = self.state
        s.num_rounds = max(s.num_rounds, event.num_rounds)
        if s.wake_at is not None and s.wanted:
            s.wake_at = max(s.wake_at, at + RESUME_TIME)
        return [Publish(events.RunResumed(at, s.num_rounds, s.round))]

    def _nothing(self, _: Input, __: float) -> list[Command]:
        return []

    # ---- what is lost

    def _lost(self, event: Lost, at: float) -> list[Command]:
        """Goes on without what is lost. Sends nothing and asks nothing: all that is due then is in `owed`."""
        s = self.state
        s.losses += 1
        if s.version in event.versions:
            commands = self._go_back(event, at)
        else:
            if s.best_version in event.versions:
                s.best, s.best_version, s.best_round = None, None, 0
            if s.spare & set(event.versions):
                s.before = None
            commands = self._do_without(event, at)
        return [command for command in commands if isinstance(command, (Cancel, Discard, Publish))]

    def _go_back(self, event: Lost, at: float) -> list[Command]:
        """To the version before the newest: the rounds since then are done again."""
        s, before = self.state, self.state.before
        if before is None or before.version in event.versions:
            raise RuntimeError("no version of the model is left")
        commands: list[Command] = [Cancel(task, "its round is done again") for task in self.pending]
        replies = [*s.results.values(), *(reply for _, reply in s.ahead)]
        commands += [Discard(reply.content) for reply in replies if reply.content is not None]
        best = before.best, before.best_version, before.best_round
        there = {None, s.best_version, before.version}.difference(event.versions)  # the others' files are removed
        s.best, s.best_version, s.best_round = best if before.best_version in there else (None, None, 0)
        s.version, s.completed, s.progress, s.progress_round = (
            before.version,
            before.completed,
            before.progress,
            before.progress_round,
        )
        s.norms = list(before.norms)
        s.carried, s.ahead, s.measured, s.before, s.ended, s.void_rounds = [], [], {}, None, None, 0
        commands.append(Publish(events.RunRewound(at, s.completed + 1, s.version)))
        return commands + self._begin_round(at)

    def _do_without(self, event: Lost, at: float) -> list[Command]:
        """Asks again for the answers that are lost, and gives up the tasks that cannot be done any more."""
        s = self.state
        commands, changed = self._of_earlier_rounds(event, at), False
        busy = {task.client for task in self.pending}  # at another task by now
        for place, task in enumerate(s.tasks):
            reply = s.results.get(place)
            answer_lost = reply is not None and reply.content in event.contents
            needed = place not in s.failures and (reply is None or task.version in event.versions)
            why = _hopeless(task, event) if needed else ""
            if answer_lost and task.client in busy:
                why = why or "its answer is lost"
            if why:
                s.results.pop(place, None)
                s.failures[place] = Failure(FailureKind.LOST, why)
                if reply is None:
                    commands.append(Cancel(task, why))
                commands.append(self._failed_event(task, s.failures[place], at))
            elif answer_lost:
                del s.results[place]
                busy.add(task.client)
                s.tasks[place] = replace(task, id=f"{task.id}r{s.losses}")  # its client was told that the answer has counted
            else:
                continue
            changed = True
        if not changed:
            return commands
        unanswered = (place for place in range(len(s.tasks)) if place not in s.results and place not in s.failures)
        s.wanted = {s.tasks[place].id: place for place in unanswered}
        if s.phase is Phase.STEPPING:
            s.phase = Phase.FIT if s.kind is Kind.FIT else Phase.SEEDING
            s.wake_at = None if self.rules.pace.deadline is None else at + self.rules.pace.deadline
        return commands + self._progress(at)

    def _of_earlier_rounds(self, event: Lost, at: float) -> list[Command]:
        s = self.state
        commands: list[Command] = []
        for task in [task for task in s.carried if _hopeless(task, event)]:
            s.carried.remove(task)
            failure = Failure(FailureKind.LOST, _hopeless(task, event))
            commands += [Cancel(task, failure.text), self._failed_event(task, failure, at)]
        for task, reply in list(s.ahead):
            why = _hopeless(task, event) or ("its answer is lost" if reply.content in event.contents else "")
            if why:
                s.ahead.remove((task, reply))
                commands.append(self._failed_event(task, Failure(FailureKind.LOST, why), at))
        return commands

    # ---- small readings of the state

    def _wanted_tasks(self) -> tuple[Task, ...]:
        return tuple(self.state.tasks[place] for place in self.state.wanted.values())

    def _results(self) -> tuple[tuple[Task, Reply], ...]:
        s = self.state
        return tuple((task, s.results[place]) for place, task in enumerate(s.tasks) if place in s.results)

    def _failures(self) -> tuple[tuple[Task, Failure], ...]:
        s = self.state
        return tuple((task, s.failures[place]) for place, task in enumerate(s.tasks) if place in s.failures)

    def _forget(self) -> None:
        s = self.state
        s.tasks, s.wanted, s.results, s.failures = [], {}, {}, {}

    def _failed_event(self, task: Task, failure: Failure, at: float) -> Publish:
        return Publish(
            events.TaskFailed(
                at, task.round, task.kind, task.client, failure.kind, failure.text, failure.detail
            )
        )

    def _closed_event(self, at: float, loss: object, metrics: dict[str, object], note: str) -> Publish:
        s = self.state
        seconds = at - s.opened_at
        counts = len(s.results), len(s.failures)
        return Publish(events.ExchangeClosed(at, s.round, s.kind, *counts, seconds, loss, metrics, note))


def _hopeless(task: Task, event: Lost) -> str:
    """Why this task cannot be done any more; "" where it can."""
    if task.version in event.versions:
        return f"version {task.version} of the model, from which it starts, is lost"
    return "the parameters that were made for it are lost" if task.content in event.contents else ""
