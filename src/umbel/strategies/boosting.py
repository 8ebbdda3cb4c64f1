"""Federated gradient boosting: the model is a booster, as the JSON bytes of `Booster.save_raw("json")`.

Boosters travel as bytes among a model's tensors, and the server reads their JSON; it needs no xgboost. What a round starts
from is the version of the model, not an attribute, so that a run goes on after a restart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

import numpy as np

from umbel.aggregators import chunk_size, mean
from umbel.errors import StrategyError
from umbel.exchange import EvaluateIns, FitIns, FitRes, Metrics, Parameters, Scalar
from umbel.fold import Contribution, combine, in_memory
from umbel.keywords import checked
from umbel.optimizers import sgd
from umbel.params import Blob, Params
from umbel.strategies.base import FailedResult
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.combining import Results, started_from
from umbel.strategies.fedavg import Classic, FedAvg

__all__ = ["FedXgbBagging", "FedXgbCyclic", "FedXgbNnAvg"]

_T = TypeVar("_T")
_LeftOut = dict[int, str]  # by place in the results: why one does not count


class _Boosting(FedAvg):
    """A strategy whose updates are boosters.

    A result that is none is left out, and the metric `left_out` says whose it was and why. Where none is left the
    model stays; `StrategyError` where there is no booster yet.
    """

    receives = "anything"

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[FailedResult]
    ) -> tuple[Parameters | None, dict[str, object]]:
        if not results or (failures and not self.accept_failures):
            return None, {}
        made, left_out = self._combined(results)
        said = "; ".join(f"client {results[place][0].cid} sent {why}" for place, why in sorted(left_out.items()))
        if len(left_out) == len(results):
            if not _blobs(started_from(results, self._standalone)):
                raise StrategyError(said)
            return None, {"left_out": said}
        kept = [result for place, result in enumerate(results) if place not in left_out]
        metrics = self._reported("fit_metrics_aggregation_fn", kept)
        return made, {**metrics, "left_out": said} if left_out else metrics

    def _combined(self, results: Results) -> tuple[Parameters | None, _LeftOut]:
        raise NotImplementedError


class _Growing(_Boosting):
    """The model is one booster, and starts without any tree where no other start is given."""

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        given = super().initialize_parameters(client_manager)
        return Parameters([], tensor_type="") if given is None else given


class FedXgbBagging(_Growing):
    """Each client grows trees on the present booster and sends the new ones; the next booster has all of them.

    As flwr's FedXgbBagging, which takes the first iteration's trees of each client and calls all of them class 0; here all
    trees count, with their classes. A sum of K clients' trees goes K times as far: divide the learning rate by K.

    - `evaluate_function(round, parameters, {})` → (loss, metrics): `parameters.tensors` are the booster's bytes. It
      takes the place of `evaluate_fn`, which is given them as an array. Neither is asked before there is a booster.
    """

    @checked
    def __init__(
        self,
        evaluate_function: Callable[[int, Parameters, dict[str, Scalar]], tuple[float, Metrics] | None] | None = None,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(**classic)
        self.evaluate_function = evaluate_function

    def _combined(self, results: Results) -> tuple[Parameters | None, _LeftOut]:
        grown, left_out = _sifted(results, lambda res: [_parsed(blob) for blob in _boosters(res)])
        if not grown:
            return None, left_out
        try:
            boosters = [_parsed(blob) for blob in _blobs(started_from(results, self._standalone))]
        except StrategyError as error:
            raise StrategyError(f"the present model is {error}") from None
        made = Parameters([_bagged([*boosters, *(one for several in grown.values() for one in several)])], tensor_type="")
        self._standalone.made = Params.of(made.arrays())
        return made, left_out

    def _evaluated(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, object]] | None:
        if not len(parameters):
            return None
        if self.evaluate_function is None:
            return super()._evaluated(server_round, parameters)
        evaluated = self.evaluate_function(server_round, parameters, {})
        return None if evaluated is None else (evaluated[0], dict(evaluated[1]))


class FedXgbCyclic(_Growing):
    """One client after another boosts the same booster: in round r client r mod K trains, and its booster is the next.

    They evaluate in turns, too: one after each round with an evaluation.
    """

    def _combined(self, results: Results) -> tuple[Parameters | None, _LeftOut]:
        def read(res: FitRes) -> bytes:
            booster = bytes(_boosters(res)[-1])
            _parsed(booster)
            return booster

        boosted, left_out = _sifted(results, read)
        return Parameters([boosted[max(boosted)]], tensor_type="") if boosted else None, left_out

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        chosen = super().configure_fit(server_round, parameters, client_manager)
        return chosen[(server_round - 1) % len(chosen) :][:1] if chosen else []

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        chosen = super().configure_evaluate(server_round, parameters, client_manager)
        turn = server_round // self.evaluate_every - 1
        return chosen[turn % len(chosen) :][:1] if chosen else []


class FedXgbNnAvg(_Boosting):
    """Every client's trees, and the mean of networks that learn how much each tree counts.

    Ma et al. 2023, "Gradient-less Federated Gradient Boosting Trees with Learnable Learning Rates", section 3. A client
    sends its network's arrays and then its booster's bytes, and is given the mean network and all boosters, in task order.
    A network that is not finite, or whose shapes are not those of most, is left out with its booster. flwr's reads
    `res.parameters[0]`, which its own transport cannot bring.
    """

    def _combined(self, results: Results) -> tuple[Parameters | None, _LeftOut]:
        networks, left_out = _sifted(results, _network)
        shapes = {place: tuple(spec.shape for spec in network.schema.specs) for place, network in networks.items()}
        usual = Counter(shapes.values()).most_common(1)
        for place in [place for place, shape in shapes.items() if shape != usual[0][0]]:
            left_out[place] = "a network of other shapes than most"
            del networks[place]
        if not any(results[place][1].num_examples > 0 for place in networks):
            return None, left_out
        schema = next(iter(networks.values())).schema
        blocks = combine(
            schema,
            None,
            [
                Contribution(place, network.schema, in_memory(network), results[place][1].num_examples)
                for place, network in networks.items()
            ],
            aggregator=mean(),
            optimizer=sgd(),
            chunk=chunk_size(len(results)),
        )
        together = Parameters.lazy(schema, lambda: blocks).arrays()
        together += [blob for place in networks for blob in _blobs(results[place][1].parameters.arrays())]
        return Parameters.of(together), left_out


def _sifted(results: Results, read: Callable[[FitRes], _T]) -> tuple[dict[int, _T], _LeftOut]:
    """What is read from each result, by its place; and why nothing can be read from the others."""
    found: dict[int, _T] = {}
    left_out: _LeftOut = {}
    for place, (_, res) in enumerate(results):
        try:
            found[place] = read(res)
        except StrategyError as error:
            left_out[place] = str(error)
    return found, left_out


def _blobs(arrays: Sequence[object] | None) -> list[Blob]:
    return [array for array in arrays or () if isinstance(array, Blob)]


def _boosters(res: FitRes) -> list[Blob]:
    found = _blobs(res.parameters.arrays())
    if not found:
        raise StrategyError(
            "no booster; return [bytes(booster.save_raw('json'))], or Parameters of it with tensor_type=''"
        )
    return found


def _network(res: FitRes) -> Params:
    network = Params.of([array for array in res.parameters.arrays() if not isinstance(array, Blob)])
    for spec, array in zip(network.schema.specs, network.arrays(), strict=True):
        if spec.is_float and not np.isfinite(array).all():
            raise StrategyError("a network that is not finite")
    return network


def _parsed(raw: Blob | bytes) -> dict[str, Any]:
    """A booster's JSON, with whatever is read of it in its place."""
    try:
        booster: dict[str, Any] = json.loads(bytes(raw))
        model = _model(booster)
        trees, classes, ends = model["trees"], model["tree_info"], model.get("iteration_indptr", [0, len(model["trees"])])
        lists = all(isinstance(each, list) for each in (trees, classes, ends))
        numbers = lists and all(isinstance(number, int) for number in (*classes, *ends))
        sound = numbers and all(isinstance(tree, dict) for tree in trees) and len(classes) == len(trees)
        sound = sound and ends == sorted(ends) and ends[:1] == [0] and ends[-1:] == [len(trees)]
        sound = sound and isinstance(model["gbtree_model_param"], dict)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # of Unicode and JSON, too
        sound = False
    if not sound:
        raise StrategyError("no tree booster in JSON; send booster.save_raw('json')")
    return booster


def _bagged(boosters: Sequence[dict[str, Any]]) -> bytes:
    """One booster with all trees of several, which is their sum. Changes the first."""
    first, *others = boosters
    whole = _model(first)
    for more in map(_model, others):
        begin = len(whole["trees"])
        whole["trees"] += [{**tree, "id": begin + i} for i, tree in enumerate(more["trees"])]
        whole["tree_info"] += more["tree_info"]
        if "iteration_indptr" in whole:
            last = whole["iteration_indptr"][-1]
            ends = more.get("iteration_indptr", [0, len(more["trees"])])
            whole["iteration_indptr"] += [last + end for end in ends[1:]]
    whole["gbtree_model_param"]["num_trees"] = str(len(whole["trees"]))
    return json.dumps(first).encode()


def _model(booster: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = booster["learner"]["gradient_booster"]["model"]
    return model
