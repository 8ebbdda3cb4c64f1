"""What a run asks of its strategy, whatever that is; and the answers of one that is a value. Knows no classic method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

from umbel.aggregators import Aggregator
from umbel.dialogue import Parameters, plain_scalar
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError
from umbel.fold import Part
from umbel.pace import Pace
from umbel.rounds.exchanges import EVALUATE, FIT, Exchange
from umbel.strategies.algorithm import Advance, Algorithm, Ask, Asking, Receives, check_exchanges
from umbel.strategies.clients import ClientProxy
from umbel.strategies.combining import make_step, summarize
from umbel.strategies.numbers import Number, check_numbers
from umbel.transforms import Chain
from umbel.wire import Schema, short

__all__ = ["CLASSIC_NAMES", "Declared", "Host", "Names", "ValueHost"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a run asks once, before its first round.

    - `strategy`: what the owner has given; `name`, `names`: what it and its methods are called; `settings`: its keywords;
      `needs`: how many clients it waits for, by keyword
    - `exchanges`: of a whole round; `slots`: the names of the tensors that it remembers
    - `aggregator`: by which workers may fold updates before anyone has seen them; None where each is needed by itself
    - `receives`: None where nothing is said
    - `reads_updates`: whether a step of the owner's own may read each update
    - the others as `Algorithm` has them
    """

    strategy: object
    name: str
    names: Names
    settings: Mapping[str, object]
    needs: Mapping[str, int]
    min_available: int
    pace: Pace
    exchanges: tuple[Exchange, ...]
    receives: Receives | None
    slots: tuple[str, ...]
    transforms: Chain
    parts: Mapping[str, Part]
    aggregator: Aggregator | None
    initial_parameters: Parameters | None
    reads_updates: bool = False

    @property
    def aggregators_beside(self) -> dict[str, Aggregator]:
        """The aggregators by which workers may fold what updates have beside the model, by part."""
        found = {name: part.aggregator for name, part in self.parts.items()}
        return {name: each for name, each in found.items() if isinstance(each, Aggregator) and each.travels}

    def adds_up(self, pace: Pace) -> Aggregator | None:
        """The aggregator by which workers fold in a run of this pace: not where a round may close before all have answered,
        nor where one of the parts needs each update.
        """
        early = pace.goal is not None or pace.deadline is not None
        return None if early or len(self.aggregators_beside) < len(self.parts) else self.aggregator


class Host(Protocol):
    """A strategy, asked on behalf of one run.

    `begin` comes before the first question. `lend` has it remember these facts, and gives them with those of its own that
    are not there yet; `take_back` gives the facts after the last question, None where they are the same.
    """

    @property
    def declared(self) -> Declared: ...
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
        self._fill = fill
        self._facts: dict[str, Number] = {}
        algorithm, own = fill(), isinstance(strategy, Algorithm)
        algorithm.chain.makers  # noqa: B018  # raises for one that the clients could not make
        self.declared = Declared(
            strategy=strategy,
            name=algorithm.name,
            names=VALUE_NAMES if own else CLASSIC_NAMES,
            settings={each.name: getattr(strategy, each.name) for each in fields(algorithm)} if own else vars(strategy),
            needs={"min_available": algorithm.min_available} if own else classic_needs(strategy, algorithm),
            min_available=algorithm.min_available,
            pace=algorithm.pace,
            exchanges=check_exchanges(algorithm.name, algorithm.exchanges),
            receives=algorithm.receives,
            slots=algorithm.slots,
            transforms=algorithm.chain,
            parts=algorithm.beside,
            aggregator=algorithm.folds if algorithm.receives == "sum" else None,
            initial_parameters=getattr(strategy, "initial_parameters", None),
        )

    @property
    def algorithm(self) -> Algorithm:
        return self._fill()

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

