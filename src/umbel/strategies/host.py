"""What a run asks of its strategy, whatever that is; and the answers of one that is a value. Knows no classic method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple, Protocol

from umbel.aggregators import Aggregator
from umbel.errors import StrategyError
from umbel.exchange import Parameters, plain_scalar
from umbel.fold import Part
from umbel.pace import Pace
from umbel.rounds.exchanges import EVALUATE, FIT, Exchange
from umbel.standing import Result, Round
from umbel.strategies.algorithm import Advance, Algorithm, Ask, Asking, Number, Receives, check_exchanges
from umbel.strategies.clients import ClientProxy
from umbel.strategies.combining import make_step, summarize
from umbel.strategies.numbers import check_numbers
from umbel.transforms import Chain
from umbel.wire import Schema, short

__all__ = ["CLASSIC_NAMES", "Host", "Names", "ValueHost"]


class Names(NamedTuple):
    """What the owner calls what answers each question: for messages. {} is the name of the exchange."""

    initialize: str
    configure: str
    configure_more: str
    step: str
    evaluate: str
    summarize: str

    def configured(self, exchange: str) -> str:
        """Of whom to choose for this exchange."""
        return self.configure.format(exchange) if exchange in (FIT.name, EVALUATE.name) else self.configure_more


CLASSIC_NAMES = Names(
    "initialize_parameters", "configure_{}", "configure_exchange", "aggregate_fit", "evaluate", "aggregate_evaluate"
)
VALUE_NAMES = Names("initial_parameters", "configure", "choose", "the step", "evaluate", "measure")


class Host(Protocol):
    """A strategy, asked on behalf of one run.

    What is asked once:

    - `strategy`: what the owner has given; `name`, `names`: what it and its methods are called; `settings`: its plain
      keywords; `needs`: how many clients it waits for, by keyword
    - `min_available`, `pace`, `exchanges` (a whole round), `receives`, `slots`, `transforms`, `parts`,
      `aggregators_beside`, `initial_parameters`: as `Algorithm` has them
    - `reads_updates`: whether a step of the owner's own may read each update

    `begin` comes before the first question. `lend` has it remember these facts, and gives them with those of its own that
    are not there yet; `take_back` gives the facts after the last question, None where they are the same.
    """

    @property
    def strategy(self) -> object: ...
    @property
    def name(self) -> str: ...
    @property
    def names(self) -> Names: ...
    @property
    def settings(self) -> Mapping[str, object]: ...
    @property
    def needs(self) -> Mapping[str, int]: ...
    @property
    def min_available(self) -> int: ...
    @property
    def pace(self) -> Pace: ...
    @property
    def exchanges(self) -> tuple[Exchange, ...]: ...
    @property
    def receives(self) -> Receives | None: ...
    @property
    def slots(self) -> tuple[str, ...]: ...
    @property
    def transforms(self) -> Chain: ...
    @property
    def parts(self) -> Mapping[str, Part]: ...
    @property
    def aggregators_beside(self) -> dict[str, Aggregator]: ...
    @property
    def initial_parameters(self) -> Parameters | None: ...
    @property
    def reads_updates(self) -> bool: ...

    def adds_up(self, pace: Pace) -> Aggregator | None: ...
    def check_model(self, model: Schema) -> None: ...
    def begin(self, proxy: Callable[[str], ClientProxy]) -> None: ...
    def lend(self, facts: Mapping[str, Number], *, writable: bool) -> Mapping[str, Number]: ...
    def take_back(self, method: str, facts: Mapping[str, Number]) -> dict[str, Number] | None: ...

    def initialize(self) -> object: ...
    def choose(self, asking: Asking, parameters: Parameters) -> Sequence[Ask]: ...
    def step(
        self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]
    ) -> tuple[object, object]: ...
    def evaluate(self, here: Round, parameters: Parameters) -> object: ...
    def summarize(self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]) -> object: ...


class ValueHost:
    """Answers from an `Algorithm`: the owner's own, or the one that a strategy fills while none of its methods is his.

    `strategy` is one of both, and `fill` gives the value as it is now.
    """

    def __init__(self, strategy: object, fill: Callable[[], Algorithm]) -> None:
        self.strategy = strategy
        self.names = VALUE_NAMES if isinstance(strategy, Algorithm) else CLASSIC_NAMES
        self._fill = fill
        self._facts: dict[str, Number] = {}

    @property
    def algorithm(self) -> Algorithm:
        return self._fill()

    @property
    def name(self) -> str:
        return self.algorithm.name

    @property
    def settings(self) -> Mapping[str, object]:
        if isinstance(self.strategy, Algorithm):
            return {each.name: getattr(self.strategy, each.name) for each in fields(self.strategy)}
        return vars(self.strategy)

    @property
    def needs(self) -> Mapping[str, int]:
        if isinstance(self.strategy, Algorithm):
            return {"min_available": self.min_available}
        return classic_needs(self.strategy, self.algorithm)

    @property
    def min_available(self) -> int:
        return self.algorithm.min_available

    @property
    def pace(self) -> Pace:
        return self.algorithm.pace

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return check_exchanges(self.name, self.algorithm.exchanges)

    @property
    def receives(self) -> Receives:
        return self.algorithm.receives

    @property
    def slots(self) -> tuple[str, ...]:
        return self.algorithm.slots

    @property
    def transforms(self) -> Chain:
        found = self.algorithm.chain
        found.makers  # noqa: B018  # raises for one that the clients could not make
        return found

    @property
    def parts(self) -> Mapping[str, Part]:
        return self.algorithm.beside

    @property
    def aggregators_beside(self) -> dict[str, Aggregator]:
        return self.algorithm.aggregators_beside

    @property
    def initial_parameters(self) -> Parameters | None:
        return getattr(self.strategy, "initial_parameters", None)

    @property
    def reads_updates(self) -> bool:
        return False

    def adds_up(self, pace: Pace) -> Aggregator | None:
        return self.algorithm.adds_up(pace) if self.receives == "sum" else None

    def check_model(self, model: Schema) -> None:
        self.algorithm.check_model(model)

    def begin(self, proxy: Callable[[str], ClientProxy]) -> None:
        """It asks no client by itself."""

    def lend(self, facts: Mapping[str, Number], *, writable: bool) -> Mapping[str, Number]:
        self._facts = {**(self.algorithm.facts or {}), **facts}
        return self._facts

    def take_back(self, method: str, facts: Mapping[str, Number]) -> dict[str, Number] | None:
        return None if self._facts == {**(self.algorithm.facts or {}), **facts} else self._facts

    def initialize(self) -> Parameters | None:
        return self.algorithm.start

    def choose(self, asking: Asking, parameters: Parameters) -> Sequence[Ask]:
        return self.algorithm.ask(asking)

    def step(
        self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]
    ) -> tuple[Parameters | None, object]:
        algorithm = self.algorithm
        made, metrics = make_step(algorithm, here, results, len(failures))
        if algorithm.advance is not None:
            self._advance(algorithm.advance, here, None, metrics)
        return made, metrics

    def evaluate(self, here: Round, parameters: Parameters) -> object:
        algorithm = self.algorithm
        if algorithm.evaluate is None or here.number % algorithm.evaluate_every:
            return None
        return self._evaluated(algorithm, here, algorithm.evaluate(here, parameters))

    def summarize(self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]) -> object:
        algorithm = self.algorithm
        return self._evaluated(algorithm, here, summarize(algorithm, results, len(failures)))

    def _evaluated(self, algorithm: Algorithm, here: Round, said: object) -> object:
        match said:
            case (loss, Mapping() as metrics) if algorithm.advance is not None and loss is not None:
                self._advance(algorithm.advance, here, loss, metrics)
            case _:
                pass  # whoever asked says what is wrong with it
        return said

    def _advance(self, advance: Advance, here: Round, loss: object, metrics: Mapping[str, object]) -> None:
        """Has the algorithm say what it remembers from here on."""
        changed: object = advance(here, plain_scalar(loss), metrics)
        if not isinstance(changed, Mapping) or changed.keys() - self._facts.keys():
            known = ", ".join(map(short, self._facts)) or "none"
            raise StrategyError(f"advance() returned {short(changed)}; it returns those facts that change, of {known}")
        self._facts = {**self._facts, **check_numbers("advance()", changed)}


def classic_needs(strategy: object, algorithm: Algorithm | None) -> dict[str, int]:
    """How many clients a classic strategy waits for, by its keywords."""
    names = ["min_available_clients"]
    if algorithm is not None:
        names += ["min_fit_clients", *(["min_evaluate_clients"] if algorithm.evaluators is not None else [])]
    return {name: getattr(strategy, name) for name in names}

