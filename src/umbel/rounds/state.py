"""What a coordinator knows of a run, as plain values. Knows no inputs and no commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from umbel.pace import Pace
from umbel.population import Population
from umbel.rounds import notices
from umbel.rounds.exchanges import FIRST_PARAMETERS, ROUND, Contribution, Exchange, check_round
from umbel.rounds.messages import Closed, Facts, Failure, Reply, Task
from umbel.rounds.stopping import Standing

__all__ = ["Before", "Phase", "Question", "Rules", "Run", "State"]


class Phase(StrEnum):
    NEW = "new"
    WAITING = "waiting"  # for clients, or until a void attempt has backed off
    ASKING = "asking"  # the owner's code
    OPEN = "open"  # clients work for an exchange
    DONE = "done"


class Question(StrEnum):
    """What the owner's code can be asked."""

    INITIALIZE = "initialize"  # has the strategy parameters?
    CHOOSE = "choose"  # whom?
    STEP = "step"  # what do the updates make of the model?
    EVALUATE = "evaluate"  # how good is it by the owner's own data?
    SUMMARIZE = "summarize"  # what do the evaluations say together?


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is fixed for a run. `min_available` clients must be there before anyone is chosen."""

    run: str
    min_available: int
    pace: Pace
    exchanges: tuple[Exchange, ...] = ROUND
    named: Mapping[str, Exchange] = field(init=False, repr=False, compare=False)  # these, and that of the first parameters

    def __post_init__(self) -> None:
        exchanges = tuple(exchange.under(self.pace) for exchange in self.exchanges)
        check_round(exchanges)
        object.__setattr__(self, "exchanges", exchanges)
        object.__setattr__(self, "named", {each.name: each for each in (FIRST_PARAMETERS.under(self.pace), *exchanges)})


@dataclass(frozen=True, slots=True)
class Before:
    """What the run goes back to where its newest version is lost: the version before, and what was true when it ended."""

    version: int
    completed: int
    standing: Standing
    norms: tuple[float, ...]
    facts: Facts = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """Everything the coordinator knows. Plain values only: a store writes it as it is."""

    num_rounds: int
    phase: Phase = Phase.NEW
    question: Question | None = None  # that is open, exactly while ASKING
    pool: Population = field(default_factory=Population)  # present clients
    round: int = 0
    exchange: str = FIRST_PARAMETERS.name  # that is waited for, asked about or open, or was it last
    attempt: int = 0
    version: int | None = None  # newest version of the model
    needed: int = 0  # clients that must be there before the next choice
    opened_at: float = 0.0
    wake_at: float | None = None
    tasks: list[Task] = field(default_factory=list)  # of the open exchange, by index
    wanted: dict[str, int] = field(default_factory=dict)  # id → place in `tasks` of those still unanswered, in task order
    results: dict[int, Reply] = field(default_factory=dict)  # by place in `tasks`
    failures: dict[int, Failure] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)  # the exchanges before it of the same step
    carried: list[Task] = field(default_factory=list)  # fit tasks of earlier rounds that are still at work
    ahead: list[tuple[Task, Reply]] = field(default_factory=list)  # and the answers of those that are not
    refused: dict[str, None] = field(default_factory=dict)  # clients without parameters to give
    completed: int = 0  # rounds
    measured: dict[str, float | None] = field(default_factory=dict)  # the watched metrics of this round; None: no number
    standing: Standing = field(default_factory=Standing)
    ended: notices.RunFinished | None = None  # how, once it is
    void_rounds: int = 0  # in a row, up to now
    norms: list[float] = field(default_factory=list)  # of accepted updates, where the limit is made from them
    empty: dict[str, None] = field(default_factory=dict)  # the refused ones who have said that they have no parameters
    everybody: bool = False  # whether all clients that there ever are have come
    before: Before | None = None  # the newest version
    losses: int = 0  # so often has something been lost
    facts: Facts = field(default_factory=dict)  # what the strategy remembers in numbers, where it has changed

    def enter(self, phase: Phase, question: Question | None = None) -> None:
        self.phase, self.question = phase, question

    def forget_exchange(self) -> None:
        self.tasks, self.wanted, self.results, self.failures = [], {}, {}, {}

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

    @property
    def open(self) -> Closed:
        """The open exchange, as it is when it closes."""
        return Closed(self.exchange, self.answered, self.failed, self.opened_at)

    @property
    def kept(self) -> list[tuple[Task, Reply]]:
        """What has been answered beside the open exchange: in those before it, and for the next round."""
        return [*(pair for closed in self.closed for pair in closed.results), *self.ahead]

    def find_carried(self, task_id: str) -> Task | None:
        """The carried task of this id."""
        return next((task for task in self.carried if task.id == task_id), None)

    @property
    def contents(self) -> frozenset[str]:
        """Names of the updates and own parameters that are still needed."""
        replies = [*self.results.values(), *(reply for _, reply in self.kept)]
        tasks = [*self.tasks, *self.carried]
        names = (*(reply.content for reply in replies), *(task.content for task in tasks))
        return frozenset(name for name in names if name is not None)

    @property
    def versions(self) -> frozenset[int]:
        """The versions of the model that are still needed: the newest, the best, and those that tasks have started from."""
        working = (task for place, task in enumerate(self.tasks) if place not in self.failures)
        tasks = [*working, *self.carried, *(task for task, _ in self.kept)]
        found = (self.version, self.standing.best_version, *(task.version for task in tasks))
        return frozenset(version for version in found if version is not None)

    @property
    def here(self) -> Before | None:
        """What is true now, for when the run goes back to the newest version; None without one."""
        if self.version is None:
            return None
        return Before(self.version, self.completed, self.standing, tuple(self.norms), self.facts)

    def remember(self, facts: Facts | UnsetType) -> None:
        """Replaces the facts by those of an answer that has some."""
        if facts is not UNSET:
            self.facts = facts

    @property
    def spare(self) -> frozenset[int]:
        """The version that is kept for the case that the newest is lost."""
        return frozenset() if self.before is None else frozenset({self.before.version})


class Run(NamedTuple):
    """A run as the coordinator's functions are given it: what is fixed, and what changes."""

    rules: Rules
    state: State

    @property
    def exchange(self) -> Exchange:
        """The exchange that is waited for, asked about or open, or was it last."""
        return self.rules.named[self.state.exchange]

    @property
    def pace(self) -> Pace:
        """When it closes."""
        pace = self.exchange.pace
        assert pace is not None  # `Rules` has seen to it
        return pace

    @property
    def following(self) -> Exchange | None:
        """The exchange after it, where that comes before the step."""
        exchanges = self.rules.exchanges
        following = exchanges[exchanges.index(self.exchange) + 1]
        return None if following.contributes is Contribution.METRICS else following

    @property
    def earlier_updates(self) -> Closed | None:
        """The exchange before the open one that contributes the updates; None where that is the open one itself."""
        named = self.rules.named
        closed = (closed for closed in self.state.closed if named[closed.exchange].contributes is Contribution.UPDATES)
        return next(closed, None)
