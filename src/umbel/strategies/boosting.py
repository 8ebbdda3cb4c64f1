"""Federated gradient boosting: the model is a booster, as the JSON bytes of `Booster.save_raw("json")`.

Boosters travel as bytes among a model's tensors, and the server reads their JSON; it needs no xgboost. What a round starts
from is the version of the model, not an attribute, so that a run goes on after a restart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, Unpack

import numpy as np

from umbel.aggregators import chunk_size, mean
from umbel.errors import StrategyError
from umbel.exchange import Metrics, Parameters, Scalar
from umbel.fold import Contribution, combine, in_memory
from umbel.keywords import checked
from umbel.optimizers import sgd
from umbel.params import Blob, Params
from umbel.standing import Result, Round
from umbel.strategies.algorithm import Algorithm, Combined
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

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), combine=self._combine)

    def _combine(self, here: Round, results: Sequence[Result]) -> Combined:
        made, left_out = self._combined(here, results)
        said = "; ".join(f"client {results[place].client} sent {why}" for place, why in sorted(left_out.items()))
        if len(left_out) == len(results) and not _blobs(here.arrays()):
            raise StrategyError(said)
        kept = [result for place, result in enumerate(results) if place not in left_out]
        return Combined(made, kept, {"left_out": said} if left_out else {})

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        raise NotImplementedError


class _Growing(_Boosting):
    """The model is one booster, and starts without any tree where no other start is given."""

    def algorithm(self) -> Algorithm:
        start = Parameters([], tensor_type="") if self.initial_parameters is None else self.initial_parameters
        return replace(super().algorithm(), initial_parameters=start)


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

    def algorithm(self) -> Algorithm:
        plain = super().algorithm()
        asked = plain.evaluate if self.evaluate_function is None else self._ask_evaluate_function

        def evaluate(here: Round, parameters: Parameters) -> tuple[float, Metrics] | None:
            return asked(here, parameters) if asked is not None and len(parameters) else None

        return replace(plain, evaluate=evaluate)

    def _ask_evaluate_function(self, here: Round, parameters: Parameters) -> tuple[float, Metrics] | None:
        assert self.evaluate_function is not None  # algorithm() has looked
        return self.evaluate_function(here.number, parameters, {})

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        grown, left_out = _sifted(results, lambda result: [_parsed(blob) for blob in _boosters(result)])
        if not grown:
            return None, left_out
        try:
            boosters = [_parsed(blob) for blob in _blobs(here.arrays())]
        except StrategyError as error:
            raise StrategyError(f"the present model is {error}") from None
        made = _bagged([*boosters, *(one for several in grown.values() for one in several)])
        return Parameters([made], tensor_type=""), left_out


class FedXgbCyclic(_Growing):
    """One client after another boosts the same booster: in round r client r mod K trains, and its booster is the next.

    They evaluate in turns, too: one after each round with an evaluation.
    """

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), in_turns=True)

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        def read(result: Result) -> bytes:
            booster = bytes(_boosters(result)[-1])
            _parsed(booster)
            return booster

        boosted, left_out = _sifted(results, read)
        return Parameters([boosted[max(boosted)]], tensor_type="") if boosted else None, left_out


class FedXgbNnAvg(_Boosting):
    """Every client's trees, and the mean of networks that learn how much each tree counts.

    Ma et al. 2023, "Gradient-less Federated Gradient Boosting Trees with Learnable Learning Rates", section 3. A client
    sends its network's arrays and then its booster's bytes, and is given the mean network and all boosters, in task order.
    A network that is not finite, or whose shapes are not those of most, is left out with its booster. flwr's reads
    `res.parameters[0]`, which its own transport cannot bring.
    """

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        networks, left_out = _sifted(results, _network)
        shapes = {place: tuple(spec.shape for spec in network.schema.specs) for place, network in networks.items()}
        usual = Counter(shapes.values()).most_common(1)
        for place in [place for place, shape in shapes.items() if shape != usual[0][0]]:
            left_out[place] = "a network of other shapes than most"
            del networks[place]
        if not any(results[place].num_examples > 0 for place in networks):
            return None, left_out
        schema = next(iter(networks.values())).schema
        blocks = combine(
            schema,
            None,
            [
                Contribution(place, network.schema, in_memory(network), results[place].num_examples)
                for place, network in networks.items()
            ],
            aggregator=mean(),
            optimizer=sgd(),
            chunk=chunk_size(len(results)),
        )
        together = Parameters.lazy(schema, lambda: blocks).arrays()
        together += [blob for place in networks for blob in _blobs(results[place].arrays())]
        return Parameters.of(together), left_out


def _sifted(results: Sequence[Result], read: Callable[[Result], _T]) -> tuple[dict[int, _T], _LeftOut]:
    """What is read from each result, by its place; and why nothing can be read from the others."""
    found: dict[int, _T] = {}
    left_out: _LeftOut = {}
    for place, result in enumerate(results):
        try:
            found[place] = read(result)
        except StrategyError as error:
            left_out[place] = str(error)
    return found, left_out


def _blobs(arrays: Sequence[object] | None) -> list[Blob]:
    return [array for array in arrays or () if isinstance(array, Blob)]


def _boosters(result: Result) -> list[Blob]:
    found = _blobs(result.arrays())
    if not found:
        raise StrategyError(
            "no booster; return [bytes(booster.save_raw('json'))], or Parameters of it with tensor_type=''"
        )
    return found


def _network(result: Result) -> Params:
    network = Params.of([array for array in result.arrays() if not isinstance(array, Blob)])
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
