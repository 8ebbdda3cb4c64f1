"""Asks the strategy who takes part in an exchange, and checks that those clients are there and what they get can travel.

Knows the client manager and the clients' proxies, and brings both up to date before each question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from umbel.errors import StrategyError, WireError
from umbel.exchange import EvaluateIns, FitIns, GetPropertiesIns, Parameters, scalars
from umbel.population import Clients
from umbel.rng import frozen_stream
from umbel.rounds.exchanges import EVALUATE, FIT
from umbel.rounds.messages import Choose, Chosen, Kind, Member
from umbel.runtime.answered import answers_of
from umbel.runtime.contents import write_content
from umbel.runtime.model import GlobalModel
from umbel.strategies.base import Strategy
from umbel.strategies.clients import ClientManager, ClientProxy, NotEnoughClients, Proxies, SimpleClientManager
from umbel.strategies.returned import check_parameters

__all__ = ["Chooser", "method_of"]

MAX_PROXIES = 100_000  # more than that are not kept from round to round

_Ins = FitIns | EvaluateIns | GetPropertiesIns


class Chooser:
    """The strategy, asked who takes part."""

    def __init__(
        self,
        strategy: Strategy,
        manager: ClientManager,
        model: GlobalModel,
        *,
        seed: int,
        proxy: Callable[[str], ClientProxy],
        population: int | None,
    ) -> None:
        """`population` is how many clients there can ever be, where that is known."""
        self._strategy = strategy
        self._manager = manager
        self._model = model
        self._seed = seed
        self._proxy = proxy
        self._proxies: dict[str, ClientProxy] = {}
        self._available: Clients | None = None
        self._population = population

    def choose(self, question: Choose) -> Chosen:
        """Whom the strategy chooses; or how many clients it needs."""
        self._bring_up(question.available)
        if isinstance(self._manager, SimpleClientManager):
            self._manager.busy = question.busy
            drawn = EVALUATE.name if question.name == EVALUATE.name else FIT.name  # one address for all that lead to a step
            place = "select", drawn, question.round, question.attempt
            self._manager.rng = lambda: frozen_stream(self._seed, *place)  # 60 µs, where anyone draws at all
        parameters = self._model.parameters(question.version)
        try:
            return Chosen(self._members(question, parameters, self._configure(question, parameters) or ()))  # None skips
        except NotEnoughClients as wish:
            if self._population is not None and wish.needed > self._population:
                raise StrategyError(
                    f"{type(self._strategy).__name__}: {method_of(question)}() asks for {wish.needed} clients, there "
                    f"are {self._population}; have more of them, or a strategy that needs fewer"
                ) from None
            return Chosen(needs=wish.needed)

    def _configure(self, question: Choose, parameters: Parameters) -> Sequence[tuple[ClientProxy, _Ins]] | None:
        if question.name == EVALUATE.name:
            return self._strategy.configure_evaluate(question.round, parameters, self._manager)
        answers = answers_of(question.closed, self.client, self._model.contents)
        return self._strategy.configure_exchange(question.name, question.round, parameters, self._manager, answers)

    def _members(
        self, question: Choose, parameters: Parameters, chosen: Sequence[tuple[ClientProxy, _Ins]]
    ) -> tuple[Member, ...]:
        own: dict[int, str] = {id(parameters): ""}  # what travels besides the model, each written once
        members = []
        for proxy, ins in list(chosen):  # all of them alive: `own` knows parameters by their id
            if proxy.cid not in question.available:
                raise StrategyError(f"{method_of(question)}() chose client {proxy.cid!r}, which is not present")
            if isinstance(ins, GetPropertiesIns) != (question.kind is Kind.PROPERTIES):
                wanted = "GetPropertiesIns" if question.kind is Kind.PROPERTIES else "FitIns or EvaluateIns"
                raise StrategyError(
                    f"{method_of(question)}() made a {type(ins).__name__} for the exchange {question.name!r}; clients are "
                    f"asked for {question.kind} with {wanted}"
                )
            try:
                config = scalars(ins.config)
            except WireError as error:
                raise StrategyError(f"{method_of(question)}() made a config that cannot travel: {error}") from None
            content = None
            if not isinstance(ins, GetPropertiesIns):
                if id(ins.parameters) not in own:
                    name = f"own-{question.round}-{question.name}-{question.attempt}-{len(own)}"
                    given = check_parameters(method_of(question), ins.parameters)
                    given = given.named_as(self._model.at(question.version).schema)
                    write_content(self._model.contents, name, *given.stream())
                    own[id(ins.parameters)] = name
                content = own[id(ins.parameters)] or None
            members.append(Member(proxy.cid, {**config}, content))
        return tuple(members)

    def client(self, name: str) -> ClientProxy:
        """The client of this name, as the strategy knows it."""
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
            self._manager.clients = Proxies(available, self.client)  # makes no proxy of a client that is not sampled
            return
        for proxy in gone:
            self._manager.unregister(proxy)
        for name in available:
            self._manager.register(self.client(name))


def _registers_plainly(manager: SimpleClientManager) -> bool:
    mine, plain = type(manager), SimpleClientManager
    return mine.register is plain.register and mine.unregister is plain.unregister


def method_of(question: Choose) -> str:
    """What a strategy's method is called that chooses for this exchange."""
    return f"configure_{question.name if question.name in (FIT.name, EVALUATE.name) else 'exchange'}"
