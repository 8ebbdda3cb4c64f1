"""Asks the strategy who takes part in an exchange, and checks that those clients are there and what they get can travel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from umbel.dialogue import Parameters, scalars
from umbel.dialogue.results import Round
from umbel.errors import StrategyError, WireError
from umbel.rng import frozen_stream
from umbel.rounds.exchanges import EVALUATE, FIT
from umbel.rounds.messages import Choose, Chosen, Member
from umbel.runtime.contents import write_content
from umbel.runtime.model import GlobalModel
from umbel.strategies.algorithm import Ask, Asking
from umbel.strategies.clients import NotEnoughClients
from umbel.strategies.host import Host
from umbel.strategies.returned import check_parameters

__all__ = ["Chooser"]


class Chooser:
    """The strategy, asked who takes part. `population` is how many clients there can ever be, where that is known."""

    def __init__(self, host: Host, model: GlobalModel, *, seed: int, population: int | None) -> None:
        self._host = host
        self._model = model
        self._seed = seed
        self._population = population

    def choose(self, question: Choose, here: Round) -> Chosen:
        """Whom the strategy chooses; or how many clients it needs."""
        drawn = EVALUATE.name if question.name == EVALUATE.name else FIT.name  # one address for all that lead to a step
        rng = partial(frozen_stream, self._seed, "select", drawn, question.round, question.attempt)  # 60 µs, if anyone draws
        parameters = self._model.parameters(question.version)
        asking = Asking(question.name, question.kind, here, question.available, question.busy, rng)
        try:
            return Chosen(self._members(question, self._host.choose(asking, parameters)))
        except NotEnoughClients as wish:
            if self._population is not None and wish.needed > self._population:
                raise StrategyError(
                    f"{self._host.declared.name}: {self._method(question)}() asks for {wish.needed} clients, there "
                    f"are {self._population}; have more of them, or a strategy that needs fewer"
                ) from None
            return Chosen(needs=wish.needed)

    def _method(self, question: Choose) -> str:
        return self._host.declared.names.configured(question.name)

    def _members(self, question: Choose, asked: Sequence[Ask]) -> tuple[Member, ...]:
        own: dict[int, str] = {}  # what travels besides the model, each written once
        members = []
        for client, given, parameters in asked:  # all of them alive: `own` knows parameters by their id
            if client not in question.available:
                raise StrategyError(f"{self._method(question)}() chose client {client!r}, which is not present")
            try:
                config = scalars(given)
            except WireError as error:
                raise StrategyError(f"{self._method(question)}() made a config that cannot travel: {error}") from None
            content = None
            if parameters is not None:
                if id(parameters) not in own:
                    own[id(parameters)] = self._write(question, parameters, len(own) + 1)
                content = own[id(parameters)]
            members.append(Member(client, {**config}, content))
        return tuple(members)

    def _write(self, question: Choose, parameters: Parameters, number: int) -> str:
        name = f"own-{question.round}-{question.name}-{question.attempt}-{number}"
        given = check_parameters(self._method(question), parameters)
        given = given.named_as(self._model.at(question.version).schema)
        write_content(self._model.contents, name, *given.stream())
        return name
