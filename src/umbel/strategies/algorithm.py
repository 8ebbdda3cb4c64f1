"""A strategy as a value: whatever a run asks it, as plain fields and functions. Knows no classic method and no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from umbel.aggregators import Aggregator, Rule, mean
from umbel.dialogue import Config, GivenParameters, Metrics, Parameters, Scalar, as_parameters
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError
from umbel.fold import CENTRE, FACTS, Averaged, Part, check_names, slots_of_part, statistics_of
from umbel.keywords import check_fields
from umbel.optimizers import Optimizer, sgd
from umbel.pace import Pace
from umbel.params import NDArrays
from umbel.population import Clients
from umbel.rounds.exchanges import EVALUATE, FIT, Exchange, check_round
from umbel.rounds.messages import Kind
from umbel.selectors import Selector, uniform
from umbel.strategies.averages import average
from umbel.strategies.clients import NotEnoughClients
from umbel.strategies.numbers import Number
from umbel.strategies.sound import check_sound
from umbel.suggest import SuggestsKeywords
from umbel.transforms import Chain, Transform, chain, identity
from umbel.wire import Schema, short

__all__ = ["CLASSIC_PACE", "Advance", "Algorithm", "Ask", "Asking", "Combined", "Receives", "check_exchanges"]

# The classic rule: a round closes with the whole cohort, and one without any update counts, too.
CLASSIC_PACE = Pace(quorum=0, retries=0)
Receives = Literal["sum", "updates", "anything"]
Advance = Callable[[Round, object, Mapping[str, object]], Mapping[str, Number]]
Pick = Callable[[Sequence[str], int, Callable[[], np.random.RandomState]], list[str]]


class Ask(NamedTuple):
    """One client that is asked, with which config and on which parameters: None for the newest version."""

    client: str
    config: Config
    parameters: Parameters | None = None


class Asking:
    """Whom to ask in an exchange: the question.

    - `exchange`, `kind`: its name, and what each client is asked to do
    - `round`: with the answers of the exchanges before it, and with the `facts`
    - `present`: the names of those that are there; `busy`: how many others are at a task of an earlier round
    - `rng()`: a generator for this exchange, the same each time
    """

    def __init__(
        self,
        exchange: str,
        kind: Kind,
        round_: Round,
        present: Clients,
        busy: int = 0,
        rng: Callable[[], np.random.RandomState] = np.random.RandomState,
    ) -> None:
        self.exchange, self.kind, self.round = exchange, kind, round_
        self._present, self.busy, self.rng = present, busy, rng

    @property
    def present(self) -> Clients:
        return self._present

    @property
    def available(self) -> int:
        """How many clients are there."""
        return len(self._present)

    def draw(self, size: int, needed: int, pick: Pick) -> list[str]:
        """`pick(present, size, rng)`, once `needed` are there. Raises `NotEnoughClients`, and the run waits for them."""
        if self.available + self.busy < needed:  # who is at work is there, too
            raise NotEnoughClients(needed)
        return pick(self.present, size, self.rng)


class Combined(NamedTuple):
    """What became of a round's results: the next version, None to keep the one that is there; which results it is made of;
    and metrics beside theirs.
    """

    parameters: Parameters | None
    kept: Sequence[Result]
    metrics: Mapping[str, object] = {}


def _examples(_: Round, results: Sequence[Result]) -> Sequence[float]:
    return [result.num_examples for result in results]


def _some(_: Kind, results: int, __: int) -> bool:
    return results > 0


def _averages(kind: Kind, results: Sequence[Result]) -> tuple[object, dict[str, object]]:
    return average(results, kind)


def _nothing(_: Round) -> Config:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm(metaclass=SuggestsKeywords):
    """A federated algorithm as a value. `start_server(strategy=Algorithm(...))` runs it, and so do `start_simulation` and
    `run_locally`; as it stands it is federated averaging (McMahan et al. 2017, Algorithm 1). Every strategy of
    `umbel.server.strategy` fills one: `FedAdam(...).algorithm()`.

    Its functions are given a `Round` (its number, the newest version, `facts`, the answers of earlier exchanges) and
    `Result`s, one for each client that answered, in the order of tasks. They keep nothing: a run that goes on after its
    server died asks them in another process.

    - `name`: what messages call it
    - `initial_parameters`: where to start: `Parameters`, a list of arrays, or a mapping of names to arrays; None asks one
      client
    - `min_available`: how many clients must be there before the first round
    - `exchanges`: what a round asks of clients before its step; one of them is `FIT`
    - `pace`: when a round closes, and a run
    - `select`: who trains; `evaluators`: who evaluates, None to skip the evaluation. `concurrency`: how many train at the
      same time where a pace carries tasks over; it takes the place of the selector's size
    - `cohort(asking)` → names: who trains, in place of `select`; `in_turns`: of a cohort one client takes part, the next one
      in the next round
    - `choose(asking)` → a list of `Ask`: who is asked in an exchange, with what; None leaves it to `select` and `configure`
    - `configure(round)`, `configure_evaluate(round)` → the config that clients get
    - `transform`: what happens to an update on its way
    - `weigh(round, results)` → K numbers: what each update weighs, 0 or more; its number of examples by default. A `Rule`
      may take them for something else, as `fair` takes losses
    - `shares(round, results)` → K numbers: how much of its change each update counts; `mixes`: its change is the one from
      the newest version, and not from the one that it started from
    - `guide(round, results)` → arrays: an update of the server's own, for a rule that compares with one
    - `aggregator`: how K updates, arrays of shape (n,) a block at a time, become one; a `Rule` where all are needed at once
    - `optimizer`: the server's step, from the version that is there and the combined update; what it remembers is kept with
      the version. `averaged`: which arrays it leaves alone, by patterns of their names or by positions
    - `parts`: what clients are sent, and send, beside the model, by name
    - `combine(round, results)` → `Combined`: in place of weights, aggregator and optimizer, for updates of any form
    - `enough(kind, results, failures)` → whether so many results and failures of a fit or an evaluation count
    - `measure(kind, results)` → (loss, metrics) of all clients together; averages by number of examples by default
    - `evaluate(round, parameters)` → (loss, metrics) on the server's own data, or None; `evaluate_every`: evaluation, there
      and by clients, after each k-th round only
    - `receives`: "sum", "updates" or "anything", as `Strategy` has it
    - `facts`: what it remembers in plain numbers, by name, with their first values; `advance(round, loss, metrics)` → those
      that change, asked after a step (the loss is None) and after each evaluation that gives a loss

    Raises `TypeError` and `ValueError` for what these cannot be, and for a transform that does not go with the rest.

    >>> from umbel.optimizers import momentum
    >>> algorithm = Algorithm(name="FedAvgM", optimizer=momentum(beta=0.9))
    >>> algorithm.slots
    ('momentum',)
    """

    name: str = "Algorithm"
    initial_parameters: GivenParameters | None = None
    min_available: int = 2
    exchanges: Sequence[Exchange] = (FIT,)
    pace: Pace = CLASSIC_PACE
    select: Selector = uniform(fraction=1.0, min_clients=2, min_available=2)  # noqa: RUF009  # a value
    evaluators: Selector | None = uniform(fraction=1.0, min_clients=2, min_available=2)  # noqa: RUF009  # a value
    concurrency: int | None = None
    cohort: Callable[[Asking], Sequence[str]] | None = None
    in_turns: bool = False
    choose: Callable[[Asking], Sequence[Ask] | None] | None = None
    configure: Callable[[Round], Config] = _nothing
    configure_evaluate: Callable[[Round], Config] = _nothing
    transform: Transform | Chain = identity()  # noqa: RUF009  # a value
    weigh: Callable[[Round, Sequence[Result]], Sequence[float]] = _examples
    shares: Callable[[Round, Sequence[Result]], Sequence[float]] | None = None
    mixes: bool = False
    guide: Callable[[Round, Sequence[Result]], NDArrays] | None = None
    aggregator: Aggregator | Rule = mean()  # noqa: RUF009  # a value
    optimizer: Optimizer = sgd()  # noqa: RUF009  # a value
    averaged: Averaged = None
    parts: Mapping[str, Part] | None = None
    combine: Callable[[Round, Sequence[Result]], Combined] | None = None
    enough: Callable[[Kind, int, int], bool] = _some
    measure: Callable[[Kind, Sequence[Result]], tuple[object, dict[str, object]]] = _averages
    evaluate: Callable[[Round, Parameters], tuple[float, Metrics] | None] | None = None
    evaluate_every: int = 1
    receives: Receives = "sum"
    facts: Mapping[str, Number] | None = None
    advance: Advance | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.transform, Transform):
            object.__setattr__(self, "transform", chain(self.transform))
        check_exchanges(self.name, self.exchanges)
        if self.parts:
            check_names(self.parts, frozenset({*self.optimizer.slots, CENTRE, FACTS}))
        check_sound(self.name, self, receives=self.receives)

    @property
    def start(self) -> Parameters | None:
        """The first version of the model; None asks one client."""
        return None if self.initial_parameters is None else as_parameters(self.initial_parameters)

    @property
    def chain(self) -> Chain:
        """The transforms, one after another."""
        assert isinstance(self.transform, Chain)  # __post_init__ has seen to it
        return self.transform

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the tensors that it remembers from step to step."""
        keeps = isinstance(self.aggregator, Rule) and self.aggregator.keeps
        beside = [slot for name, part in self.beside.items() for slot in slots_of_part(name, part)]
        return (*self.optimizer.slots, *([CENTRE] if keeps else []), *([FACTS] if self.chain.facts else []), *beside)

    @property
    def beside(self) -> Mapping[str, Part]:
        """What travels beside the model, by name."""
        return self.parts or {}

    @property
    def goes_on(self) -> bool:
        """Whether a step needs the version before it: most optimizers do, and rules that plan."""
        return not self.optimizer.replaces or (isinstance(self.aggregator, Rule) and self.aggregator.plan is not None)

    @property
    def folds(self) -> Aggregator | None:
        """The aggregator by which workers may fold updates before anyone has seen them; None for a rule, which is no sum."""
        return self.aggregator if isinstance(self.aggregator, Aggregator) else None

    def wanted(self, available: int, busy: int = 0) -> tuple[int, int]:
        """How many clients are to train of so many, and how many must be there for it: as many as a rule needs, at least."""
        if self.concurrency is not None:
            size = max(min(self.concurrency - busy, available), 0)
            return size, size
        size, needed = self.select.size(available)
        least = self.aggregator.least if isinstance(self.aggregator, Rule) else 0
        return max(size, least), max(needed, least)

    def ask(self, asking: Asking) -> Sequence[Ask]:
        """Who is asked in an exchange, with which config and parameters. Raises `NotEnoughClients`."""
        chosen = None if self.choose is None else self.choose(asking)
        if chosen is not None:
            return chosen
        if asking.exchange == EVALUATE.name:
            return self._evaluators(asking)
        if asking.exchange != FIT.name:
            raise StrategyError(f"{self.name} has the exchange {asking.exchange!r}, and choose= says nothing of it")
        names = self.cohort(asking) if self.cohort is not None else self._drawn(asking)
        names = self._in_turn(names, asking.round.number - 1)
        here = replace(asking.round, cohort=len(names))  # once there are enough clients
        config = _told("configure", self.configure(here))
        return [Ask(name, {**config}) for name in names]

    def _drawn(self, asking: Asking) -> Sequence[str]:
        return asking.draw(*self.wanted(asking.available, asking.busy), self.select.pick)

    def _evaluators(self, asking: Asking) -> Sequence[Ask]:
        number, selector = asking.round.number, self.evaluators
        if selector is None or number % self.evaluate_every:
            return []
        drawn = asking.draw(*selector.size(asking.available), selector.pick)
        names = self._in_turn(drawn, number // self.evaluate_every - 1)
        config = _told("configure_evaluate", self.configure_evaluate(asking.round))
        return [Ask(name, {**config}) for name in names]

    def _in_turn(self, names: Sequence[str], turn: int) -> Sequence[str]:
        return names[turn % len(names) :][:1] if self.in_turns and names else names

    def check_model(self, model: Schema) -> None:
        """Raises `StrategyError` where it names arrays that the model does not have, or has transforms for one without any,
        and `ValueError` where a transform has no layout for it.
        """
        statistics_of(model, self.averaged)
        if self.chain.links and not len(model):
            raise StrategyError(
                "transform= goes by the model's arrays, and no client has parameters to begin with; give the strategy "
                "initial_parameters=, or leave out transform="
            )
        self.chain.layouts(model)


def check_exchanges(name: str, given: object) -> tuple[Exchange, ...]:
    """A round of these exchanges. Raises `StrategyError` where they are none."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, Exchange) for each in given):
        raise StrategyError(f"{name}.exchanges is {short(given)}; it is a list of exchanges, such as [keys, FIT]")
    exchanges = (*given, EVALUATE)
    try:
        check_round(exchanges)
    except ValueError as error:
        raise StrategyError(f"{name}.exchanges: {error}") from None
    return exchanges


def _told(question: str, config: object) -> Mapping[str, Scalar]:
    if not isinstance(config, Mapping):
        raise StrategyError(f"{question}() returned {short(config)}; it returns a dict, {{}} where there is nothing to tell")
    return config
