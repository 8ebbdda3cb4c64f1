"""Asks a strategy through its classic methods, as one asks an `Algorithm`. Knows client managers, proxies and responses.

A strategy of FedAvg's family none of whose methods is its owner's fills a value, and that runs by itself. Whatever else
people have written comes through here: subclasses that call `super()`, or do not, decorated ones, ones that hold others.
What is the same for all results of a round is lent for the time of a question; what is each one's own is bound to its
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from umbel.dialogue import (
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
from umbel.dialogue.results import Result, Round, lent
from umbel.errors import StrategyError
from umbel.population import Clients
from umbel.rounds.exchanges import EVALUATE
from umbel.rounds.messages import Kind
from umbel.strategies.algorithm import Algorithm, Ask, Asking, check_exchanges
from umbel.strategies.base import Answers, Strategy
from umbel.strategies.classic.declared import held_by, methods_are_ours, receives_of
from umbel.strategies.classic.facts import Facts
from umbel.strategies.clients import ClientManager, ClientProxy, NotEnoughClients, Proxies, SimpleClientManager
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.host import CLASSIC_NAMES, Declared, Host, ValueHost, classic_needs
from umbel.strategies.numbers import Number
from umbel.strategies.sound import check_sound
from umbel.transforms import identity
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
        held = held_by(strategy)
        self.strategy = strategy
        self._manager = manager
        self._holders = [each for each in held if isinstance(each, FedAvg)]  # that have an algorithm
        self._facts = Facts(held)
        self._proxy: Callable[[str], ClientProxy] = _no_proxy
        self._proxies: dict[str, ClientProxy] = {}
        self._available: Clients | None = None
        self.declared = self._declare()

    def _declare(self) -> Declared:
        strategy, kind, name = self.strategy, type(self.strategy), type(self.strategy).__name__
        receives, algorithms = receives_of(strategy), self._algorithms
        own = strategy.value if isinstance(strategy, FedAvg) else None
        several = kind.aggregate_exchanges is not Strategy.aggregate_exchanges
        for algorithm in algorithms:  # of those that it holds, as well
            check_sound(name, algorithm, receives=receives)
        transforms = next((each.chain for each in algorithms if each.chain.links), identity())
        transforms.makers  # noqa: B018  # raises for one that the clients could not make
        # Who holds another one and says nothing is given what that one takes.
        folds = algorithms and not {receives, receives_of(self._holders[0])} & {"updates", "anything"}
        return Declared(
            strategy=strategy,
            name=name,
            names=CLASSIC_NAMES._replace(step="aggregate_exchanges") if several else CLASSIC_NAMES,
            settings=vars(strategy),
            needs=classic_needs(strategy, own),
            min_available=strategy.min_available_clients,
            pace=strategy.pace if own is None else own.pace,
            exchanges=check_exchanges(name, strategy.exchanges if own is None else own.exchanges),
            receives=receives,
            slots=tuple(dict.fromkeys(slot for algorithm in algorithms for slot in algorithm.slots)),
            transforms=transforms,
            parts=next((each.beside for each in algorithms if each.beside), {}),
            aggregator=algorithms[0].folds if folds else None,
            initial_parameters=getattr(strategy, "initial_parameters", None),
            reads_updates=not kind.__module__.startswith("umbel.") and kind.aggregate_fit is not FedAvg.aggregate_fit,
        )

    @property
    def _algorithms(self) -> list[Algorithm]:
        return [each.value for each in self._holders]

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
        method = self.declared.names.configured(asking.exchange)
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
                    f"{self.declared.names.step}() returned {short(returned)}; return (parameters or None, metrics)"
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
        kinds = {exchange.name: exchange.kind for exchange in self.declared.exchanges} if here.answers else {}
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
