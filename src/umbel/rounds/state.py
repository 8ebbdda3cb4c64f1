"""What a coordinator knows of a run, as plain values. Knows no inputs and no commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from umbel.pace import Pace
from umbel.population import Population
from umbel.rounds import events
from umbel.rounds.messages import Failure, Kind, Reply, Task

__all__ = ["Before", "Phase", "Rules", "Run", "State"]


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

    @property
    def pending(self) -> tuple[Task, ...]:
        """Tasks whose answer is still wanted, in task order: of the open exchange, and those carried over."""
        return (*self.wanted_tasks, *self.carried)

    @property
    def wanted_tasks(self) -> tuple[Task, ...]:
        """Tasks of the open exchange whose answer is still wanted, in task order."""
        return tuple(self.tasks[place] for place in self.wanted.values())

    @property
    def answered(self) -> tuple[tuple[Task, Reply], ...]:
        """Tasks of the exchange that have an answer, in task order."""
        return tuple((task, self.results[place]) for place, task in enumerate(self.tasks) if place in self.results)

    @property
    def failed(self) -> tuple[tuple[Task, Failure], ...]:
        """Tasks of the exchange that have failed, in task order."""
        return tuple((task, self.failures[place]) for place, task in enumerate(self.tasks) if place in self.failures)

    def find_carried(self, task_id: str) -> Task | None:
        """The carried task of this id."""
        return next((task for task in self.carried if task.id == task_id), None)

    def forget_exchange(self) -> None:
        self.tasks, self.wanted, self.results, self.failures = [], {}, {}, {}


class Run(NamedTuple):
    """A run as the coordinator's functions are given it: what is fixed, and what changes."""

    rules: Rules
    state: State
