"""A strategy whose first round begins with a question to all clients: which classes, features and rows have you?

Knows facts and strategies; knows no sockets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from umbel.dialogue import EvaluateIns, FitIns, FitRes, GetPropertiesIns, GetPropertiesRes, Parameters
from umbel.dialogue.results import current_round, lent
from umbel.errors import ClientFailed, StrategyError
from umbel.fold.contribution import in_memory
from umbel.fold.finite import all_finite
from umbel.frameworks.errors import ParametersMismatch
from umbel.frameworks.sklearn import families
from umbel.frameworks.sklearn.facts import Facts, heard, together, told
from umbel.params import Params
from umbel.rounds.exchanges import FIT, Exchange
from umbel.rounds.messages import Kind
from umbel.strategies.around import Around
from umbel.strategies.base import Answers, FailedResult
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.fedavg import FedAvg

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["FACTS", "Agreed"]

FACTS = "facts"  # the exchange, and the key under which the config of the first round brings what came of it


class Agreed(Around):
    """Another strategy whose first model knows the classes of all clients: `Agreed(FedAvg(), model=SGDClassifier())`.

    The first round begins with an exchange: every client that is there, `min_available_clients` at least, says which
    classes it has, and how many columns and rows, as `umbel.frameworks.sklearn.client` does; nothing else of its data. A
    client that comes later with a class that none of them had fails, and says so.

    It is that strategy in everything else. Raises `StrategyError` where a client says nothing, or their tables differ.
    """

    receives = "anything"  # the first step makes a model where there was none

    def __init__(self, strategy: FedAvg, *, model: BaseEstimator) -> None:
        if not families.classifies(model) and families.family_of(model).fitted == "cluster_centers_":
            raise TypeError(f"{type(model).__name__} has no classes to agree on, and begins among a client's rows: FedAvg()")
        self.model = model
        self.exchanges = (Exchange(FACTS, Kind.PROPERTIES), *strategy.exchanges)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        given = super().initialize_parameters(client_manager)
        return Parameters([]) if given is None else given

    def configure_exchange(
        self,
        exchange: str,
        server_round: int,
        parameters: Parameters,
        client_manager: ClientManager,
        answers: Answers,
    ) -> Sequence[tuple[ClientProxy, FitIns | EvaluateIns | GetPropertiesIns]]:
        if exchange == FACTS:
            if len(parameters):
                return []
            client_manager.wait_for(self.min_available_clients)
            return [(client, GetPropertiesIns({})) for client in client_manager.all().values()]
        chosen = super().configure_exchange(exchange, server_round, parameters, client_manager, answers)
        if exchange != FIT.name or len(parameters):
            return chosen
        facts = json.dumps(told(_agreed(answers)))
        return [
            (client, replace(ins, config={**ins.config, FACTS: facts})) for client, ins in chosen if isinstance(ins, FitIns)
        ]

    def aggregate_exchanges(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[FailedResult],
        answers: Answers,
    ) -> tuple[Parameters | None, dict[str, object]]:
        finite = [result for result in results if _is_finite(result[1])]
        lost = [ClientFailed(f"client {client.cid} sent a NaN or inf") for client, res in results if not _is_finite(res)]
        with _started_from(first_model(self.model, _agreed(answers))) if answers.get(FACTS) else nullcontext():
            return super().aggregate_exchanges(server_round, finite, [*failures, *lost], answers)

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        return super().evaluate(server_round, parameters) if len(parameters) else None


def first_model(model: BaseEstimator, facts: Facts) -> Params:
    """The parameters that an estimator starts from where this is known."""
    from sklearn.base import clone

    made = clone(model)
    families.prepare(made, facts)
    return Params.of(families.family_of(made).read(made))


def _agreed(answers: Answers) -> Facts:
    said = [(client, res) for client, res in answers.get(FACTS, ()) if isinstance(res, GetPropertiesRes)]
    if not said:
        raise StrategyError(
            "no client has said which classes and columns its table has; what they have raised stands before this. Clients "
            "are made by umbel.frameworks.sklearn.client(..., data=(X, y))"
        )
    try:
        return together([heard(res.properties) for _, res in said])
    except ParametersMismatch as error:
        raise StrategyError(str(error)) from None


def _started_from(first: Params) -> AbstractContextManager[None]:
    """Inside, the round's updates are of the model that all clients have made for themselves."""
    here = current_round()
    return nullcontext() if here is None else lent(replace(here, base=(first.schema, in_memory(first))))


def _is_finite(res: FitRes) -> bool:
    return all(all_finite(array.reshape(-1)) for array in res.parameters.arrays())
