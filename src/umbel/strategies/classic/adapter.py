"""Asks a strategy through its classic methods, as one asks an `Algorithm`. Knows client managers, proxies and responses.

A strategy of FedAvg's family none of whose methods is its owner's fills a value, and that runs by itself. Whatever else
people have written comes through here: subclasses that call `super()`, or do not, decorated ones, ones that hold others.
What is the same for all results of a round is lent for the time of a question; what is each one's own is bound to its
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from umbel.aggregators import Aggregator
from umbel.errors import StrategyError
from umbel.exchange import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    Status,
    scalars,
)
from umbel.fold import Part
from umbel.pace import Pace
from umbel.population import Clients
from umbel.rounds.exchanges import EVALUATE, Exchange
from umbel.rounds.messages import Kind
from umbel.standing import Result, Round, lent
from umbel.strategies.algorithm import Algorithm, Ask, Asking, Number, Receives, check_exchanges
from umbel.strategies.base import Answers, Strategy
from umbel.strategies.classic.declared import held_by, methods_are_ours, receives_of
from umbel.strategies.classic.facts import Facts
from umbel.strategies.clients import ClientManager, ClientProxy, NotEnoughClients, Proxies, SimpleClientManager
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.host import CLASSIC_NAMES, Host, Names, ValueHost, classic_needs
from umbel.strategies.sound import check_sound
from umbel.transforms import Chain, identity
from umbel.wire import Schema, short

__all__ = ["ClassicHost", "host_of"]

MAX_PROXIES = 100_000  # more than that are not kept from round to round

_OK = Status(Code.OK, "Success")


def host_of(given: Strategy | Algorithm, manager: ClientManager | None = None) -> Host:
    """What a run asks: the value itself, the one that a strategy fills, or its methods, where one of them is its owner's.

    A client manager of the owner's own is asked by classic methods. Raises `StrategyError` where there are none.
    """
    plain = manager is None or type(manager) is SimpleClientManager
    if isinstance(given, Algorithm):
        if not plain:
            raise StrategyError(
                f"client_manager= is a {type(manager).__name__}, which the classic methods of a strategy ask; an Algorithm "
                "says who takes part by select= or cohort="
            )
        return ValueHost(given, lambda: given)
    if plain and isinstance(given, FedAvg) and methods_are_ours(given):
        return ValueHost(given, partial(given.filled.of, given))
    return ClassicHost(given, SimpleClientManager() if manager is None else manager)


class ClassicHost:
    """A strategy and its client manager, asked on behalf of one run."""

    def __init__(self, strategy: Strategy, manager: ClientManager) -> None:
        self.strategy = strategy
        self._manager = manager
        self._held = held_by(strategy)
        self._facts = Facts(self._held)
        self._proxy: Callable[[str], ClientProxy] = _no_proxy
        self._proxies: dict[str, ClientProxy] = {}
        self._available: Clients | None = None

    # ---- what it is

    @property
    def _algorithms(self) -> list[Algorithm]:
        """Those of the strategy and of those that it holds, because its methods may ask theirs."""
        return [each.value for each in self._held if isinstance(each, FedAvg)]

    @property
    def _own(self) -> Algorithm | None:
        return self.strategy.value if isinstance(self.strategy, FedAvg) else None

    @property
    def name(self) -> str:
        return type(self.strategy).__name__

    @property
    def names(self) -> Names:
        several = type(self.strategy).aggregate_exchanges is not Strategy.aggregate_exchanges
        return CLASSIC_NAMES._replace(step="aggregate_exchanges") if several else CLASSIC_NAMES

    @property
    def settings(self) -> Mapping[str, object]:
        return vars(self.strategy)

    @property
    def needs(self) -> Mapping[str, int]:
        return classic_needs(self.strategy, self._own)

    @property
    def min_available(self) -> int:
        return self.strategy.min_available_clients

    @property
    def pace(self) -> Pace:
        return self.strategy.pace if self._own is None else self._own.pace

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return check_exchanges(self.name, self.strategy.exchanges if self._own is None else self._own.exchanges)

    @property
    def receives(self) -> Receives | None:
        return receives_of(self.strategy)

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(slot for algorithm in self._algorithms for slot in algorithm.slots))

    @property
    def parts(self) -> Mapping[str, Part]:
        """Those of the strategy, or of the first that it holds. Raises `ValueError` where they do not go with it."""
        found = self._with_parts
        if found is None:
            return {}
        check_sound(self.name, found, receives=self.receives)
        return found.beside

    @property
    def aggregators_beside(self) -> dict[str, Aggregator]:
        return {} if self._with_parts is None else self._with_parts.aggregators_beside

    @property
    def _with_parts(self) -> Algorithm | None:
        return next((algorithm for algorithm in self._algorithms if algorithm.beside), None)

    @property
    def transforms(self) -> Chain:
        """Those of the strategy, or of the first that it holds. Raises `ValueError` where they do not go with it."""
        for algorithm in self._algorithms:
            if algorithm.chain.links:
                check_sound(self.name, algorithm, receives=self.receives)
                algorithm.chain.makers  # noqa: B018  # raises for one that the clients could not make
                return algorithm.chain
        return identity()

    @property
    def initial_parameters(self) -> Parameters | None:
        return getattr(self.strategy, "initial_parameters", None)

    @property
    def reads_updates(self) -> bool:
        ours = type(self.strategy).__module__.startswith("umbel.")
        return not ours and type(self.strategy).aggregate_fit is not FedAvg.aggregate_fit

    def adds_up(self, pace: Pace) -> Aggregator | None:
        """As `Algorithm.adds_up`; a strategy that holds another one and says nothing is given what that one takes."""
        holders = [each for each in self._held if isinstance(each, FedAvg)]
        if not holders or {self.receives, receives_of(holders[0])} & {"updates", "anything"}:
            return None
        return holders[0].value.adds_up(pace)

    def check_model(self, model: Schema) -> None:
        for algorithm in self._algorithms:
            algorithm.check_model(model)

    def begin(self, proxy: Callable[[str], ClientProxy]) -> None:
        self._proxy = proxy

    def lend(self, facts: Mapping[str, Number], *, writable: bool) -> Mapping[str, Number]:
        self._facts.lend(facts, writable=writable)
        return facts

    def take_back(self, method: str, facts: Mapping[str, Number]) -> dict[str, Number] | None:
        return self._facts.take_back(method, facts)

    # ---- the questions

    def initialize(self) -> object:
        try:
            return self.strategy.initialize_parameters(self._manager)
        except NotEnoughClients as wish:
            raise StrategyError(
                f"initialize_parameters() asks for {wish.needed} clients, but it is asked before any can join; "
                "return None, and one client is asked for its parameters"
            ) from None

    def choose(self, asking: Asking, parameters: Parameters) -> list[Ask]:
        manager, number = self._manager, asking.round.number
        self._bring_up(asking.present)
        if isinstance(manager, SimpleClientManager):
            manager.busy, manager.rng = asking.busy, asking.rng
        with lent(asking.round):
            if asking.exchange == EVALUATE.name:
                asked: object = self.strategy.configure_evaluate(number, parameters, manager)
            else:
                answers = self._answers(asking.round)
                asked = self.strategy.configure_exchange(asking.exchange, number, parameters, manager, answers)
        method = self.names.configured(asking.exchange)
        return [self._ask(method, asking, proxy, ins, parameters) for proxy, ins in (asked or ())]  # type: ignore[attr-defined]  # None skips; an odd answer says so itself

    def _ask(self, method: str, asking: Asking, proxy: ClientProxy, ins: object, parameters: Parameters) -> Ask:
        properties = asking.kind is Kind.PROPERTIES
        match ins:
            case GetPropertiesIns(config) if properties:
                return Ask(proxy.cid, config)
            case (FitIns(own, config) | EvaluateIns(own, config)) if not properties:
                return Ask(proxy.cid, config, None if own is parameters else own)
            case _:
                wanted = "GetPropertiesIns" if properties else "FitIns or EvaluateIns"
                raise StrategyError(
                    f"{method}() made a {type(ins).__name__} for the exchange {asking.exchange!r}; clients are "
                    f"asked for {asking.kind} with {wanted}"
                )

    def step(
        self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]
    ) -> tuple[object, object]:
        answers, given = self._answers(here), [(self._client(each.client), _fit_res(each)) for each in results]
        with lent(here):
            returned: object = self.strategy.aggregate_exchanges(here.number, given, [*failures], answers)
        match returned:
            case (parameters, metrics):
                return parameters, metrics
            case _:
                raise StrategyError(
                    f"{self.names.step}() returned {short(returned)}; return (parameters or None, metrics)"
                )

    def evaluate(self, here: Round, parameters: Parameters) -> object:
        with lent(here):
            return self.strategy.evaluate(here.number, parameters)

    def summarize(self, here: Round, results: Sequence[Result], failures: Sequence[BaseException]) -> object:
        given = [(self._client(each.client), _evaluate_res(each)) for each in results]
        with lent(here):
            return self.strategy.aggregate_evaluate(here.number, given, [*failures])

    # ---- clients, as the strategy knows them

    def _answers(self, here: Round) -> Answers:
        kinds = {exchange.name: exchange.kind for exchange in self.exchanges} if here.answers else {}
        return {
            name: [(self._client(each.client), _response(kinds[name], each)) for each in results]
            for name, results in here.answers.items()
        }

    def _client(self, name: str) -> ClientProxy:
        if name not in self._proxies:
            self._proxies[name] = self._proxy(name)
        return self._proxies[name]

    def _bring_up(self, available: Clients) -> None:
        """Brings the client manager up to who is there now."""
        if available == self._available and len(self._proxies) <= MAX_PROXIES:
            return
        self._available = available
        if len(self._proxies) > MAX_PROXIES:
            self._proxies = {}
        gone = [self._proxies.pop(name) for name in list(self._proxies) if name not in available]
        if isinstance(self._manager, SimpleClientManager) and _registers_plainly(self._manager):
            self._manager.clients = Proxies(available, self._client)  # makes no proxy of a client that is not sampled
            return
        for proxy in gone:
            self._manager.unregister(proxy)
        for name in available:
            self._manager.register(self._client(name))


def _registers_plainly(manager: SimpleClientManager) -> bool:
    mine, plain = type(manager), SimpleClientManager
    return mine.register is plain.register and mine.unregister is plain.unregister


def _no_proxy(name: str) -> ClientProxy:
    raise StrategyError(f"client {name} is asked for before the run has begun")


def _fit_res(result: Result) -> FitRes:
    parameters = Parameters.of([]) if result.parameters is None else result.parameters
    return FitRes(_OK, parameters, result.num_examples, scalars(result.metrics))


def _evaluate_res(result: Result) -> EvaluateRes:
    return EvaluateRes(_OK, result.loss, result.num_examples, scalars(result.metrics))


def _response(kind: Kind, result: Result) -> FitRes | EvaluateRes | GetPropertiesRes:
    match kind:
        case Kind.EVALUATE:
            return _evaluate_res(result)
        case Kind.PROPERTIES:
            return GetPropertiesRes(_OK, scalars(result.metrics))
        case _:
            return _fit_res(result)
