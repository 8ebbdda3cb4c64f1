"""Federated gradient boosting: the model is a booster, as the JSON bytes of `Booster.save_raw("json")`.

Boosters travel as bytes among a model's tensors, and the server reads their JSON; it needs no xgboost. What a round starts
from is the version of the model, not an attribute, so that a run goes on after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from umbel.aggregators import chunk_size, mean
from umbel.combine import Contribution, combine, in_memory
from umbel.errors import StrategyError
from umbel.exchange import EvaluateIns, FitIns, FitRes, Metrics, Parameters, Scalar
from umbel.optimizers import sgd
from umbel.params import Blob, Params
from umbel.strategies.base import FailedResult
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.combining import Results, started_from
from umbel.strategies.fedavg import Classic, FedAvg, aggregate_metrics
from umbel.transforms import identity

__all__ = ["FedXgbBagging", "FedXgbCyclic", "FedXgbNnAvg"]


class _Boosting(FedAvg):
    """A strategy whose updates are boosters."""

    free_form = True

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[FailedResult]
    ) -> tuple[Parameters | None, dict[str, object]]:
        if not results or (failures and not self.accept_failures):
            return None, {}
        made = self._combined(results)
        metrics = [(res.num_examples, res.metrics) for _, res in results]
        return made, aggregate_metrics(self.fit_metrics_aggregation_fn, metrics)

    def _combined(self, results: Results) -> Parameters:
        raise NotImplementedError


class FedXgbBagging(_Boosting):
    """Each client grows trees on the present booster and sends the new ones; the next booster has all of them.

    As flwr's FedXgbBagging, which takes the first iteration's trees of each client and calls all of them class 0; here all
    trees count, with their classes. A sum of K clients' trees goes K times as far: divide the learning rate by K.

    - `evaluate_function(round, parameters, {})` → (loss, metrics): `parameters.tensors` are the booster's bytes
    """

    def __init__(
        self,
        evaluate_function: Callable[[int, Parameters, dict[str, Scalar]], tuple[float, Metrics] | None] | None = None,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(**classic)
        self.evaluate_function = evaluate_function

    def _combined(self, results: Results) -> Parameters:
        boosters = [blob for blob in started_from(results, self._alone) or [] if isinstance(blob, Blob)]
        for client, res in results:
            boosters += _boosters(client, res)
        made = Parameters([_bagged([bytes(booster) for booster in boosters])], tensor_type="")
        self._alone.version = Params.of(made.arrays())
        return made

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        if self.evaluate_function is None or not len(parameters):
            return None
        evaluated = self.evaluate_function(server_round, parameters, {})
        return None if evaluated is None else (evaluated[0], dict(evaluated[1]))


class FedXgbCyclic(_Boosting):
    """One client after another boosts the same booster: in round r client r mod K trains, and its booster is the next."""

    def _combined(self, results: Results) -> Parameters:
        return Parameters([bytes(_boosters(*results[-1])[-1])], tensor_type="")

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        chosen = super().configure_fit(server_round, parameters, client_manager)
        return chosen[(server_round - 1) % len(chosen) :][:1] if chosen else []

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        chosen = super().configure_evaluate(server_round, parameters, client_manager)
        return chosen[(server_round - 1) % len(chosen) :][:1] if chosen else []


class FedXgbNnAvg(_Boosting):
    """Every client's trees, and the mean of networks that learn how much each tree counts.

    Ma et al. 2023, "Gradient-less Federated Gradient Boosting Trees with Learnable Learning Rates", section 3. A client
    sends its network's arrays and then its booster's bytes, and is given the mean network and all boosters, in task order.
    flwr's reads `res.parameters[0]`, which its own transport cannot bring.
    """

    def _combined(self, results: Results) -> Parameters:
        answers = [res.parameters.arrays() for _, res in results]
        networks = [Params.of([array for array in arrays if not isinstance(array, Blob)]) for arrays in answers]
        schema = networks[0].schema
        for (client, _), network in zip(results, networks, strict=True):
            if [spec.shape for spec in network.schema.specs] != [spec.shape for spec in schema.specs]:
                raise StrategyError(f"client {client.cid} sent a network of other shapes than the first one")
        blocks = combine(
            schema,
            None,
            [
                Contribution(i, network.schema, in_memory(network), res.num_examples)
                for i, (network, (_, res)) in enumerate(zip(networks, results, strict=True))
            ],
            aggregator=mean(),
            optimizer=sgd(),
            transform=identity(),
            chunk=chunk_size(len(results)),
        )
        together = Parameters.lazy(schema, lambda: blocks).arrays()
        together += [array for arrays in answers for array in arrays if isinstance(array, Blob)]
        return Parameters.of(together)


def _boosters(client: ClientProxy, res: FitRes) -> list[Blob]:
    found = [array for array in res.parameters.arrays() if isinstance(array, Blob)]
    if not found:
        raise StrategyError(
            f"client {client.cid} sent no booster; return [bytes(booster.save_raw('json'))], "
            "or Parameters of it with tensor_type=''"
        )
    return found


def _bagged(boosters: Sequence[bytes]) -> bytes:
    """One booster with all trees of several, which is their sum."""
    first, *others = (json.loads(booster) for booster in boosters)
    whole = _trees(first)
    for other in others:
        more = _trees(other)
        begin = len(whole["trees"])
        whole["trees"] += [{**tree, "id": begin + i} for i, tree in enumerate(more["trees"])]
        whole["tree_info"] += more["tree_info"]
        if "iteration_indptr" in whole:
            last = whole["iteration_indptr"][-1]
            whole["iteration_indptr"] += [last + end for end in more["iteration_indptr"][1:]]
    whole["gbtree_model_param"]["num_trees"] = str(len(whole["trees"]))
    return json.dumps(first).encode()


def _trees(booster: dict[str, Any]) -> dict[str, Any]:
    try:
        trees: dict[str, Any] = booster["learner"]["gradient_booster"]["model"]
        _ = trees["trees"], trees["tree_info"], trees["gbtree_model_param"]
    except (KeyError, TypeError):
        raise StrategyError("an update is no tree booster in JSON; send booster.save_raw('json')") from None
    return trees
