"""Federated gradient boosting: the model is a booster, as bytes in its framework's own format.

Boosters travel as bytes among a model's tensors, and the server reads what it must of them (`boosters.py`); it needs no
framework. What a round starts from is the version of the model, not an attribute, so that a run goes on after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, Unpack

import numpy as np

from umbel.aggregators import chunk_size, mean
from umbel.dialogue import Metrics, Parameters, Scalar
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError
from umbel.fold import Contribution, combine, in_memory
from umbel.keywords import checked
from umbel.optimizers import sgd
from umbel.params import Blob, Params
from umbel.strategies.algorithm import Algorithm, Combined
from umbel.strategies.boosters import LIGHTGBM, XGBOOST, BoosterFormat
from umbel.strategies.fedavg import Classic, FedAvg

__all__ = ["FedLgbBagging", "FedLgbCyclic", "FedXgbBagging", "FedXgbCyclic", "FedXgbNnAvg"]

BOOSTERS = "boosters"  # in a client's config: how many clients grow trees beside each other
_T = TypeVar("_T")
_LeftOut = dict[int, str]  # by place in the results: why one does not count


class _Boosting(FedAvg):
    """A strategy whose updates are boosters.

    A result that is none is left out, and the metric `left_out` says whose it was and why. Where none is left the
    model stays; `StrategyError` where there is no booster yet.
    """

    receives = "anything"
    format: BoosterFormat = XGBOOST

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

    def _boosters(self, result: Result) -> list[Blob]:
        found = _blobs(result.arrays())
        if not found:
            raise StrategyError(f"no booster; return [{self.format.sent_by}], or Parameters of it with tensor_type=''")
        return found


class _Growing(_Boosting):
    """The model is one booster, and starts without any tree where no other start is given."""

    def algorithm(self) -> Algorithm:
        start = Parameters([], tensor_type="") if self.initial_parameters is None else self.initial_parameters
        return replace(super().algorithm(), initial_parameters=start)


class FedXgbBagging(_Growing):
    """Each client grows trees on the present booster and sends the new ones; the next booster has all of them.

    As flwr's FedXgbBagging, which takes the first iteration's trees of each client and calls all of them class 0; here all
    trees count, with their classes. A sum of K clients' trees goes K times as far: divide the learning rate by K, which is
    in the config as `boosters`; the clients of `umbel.frameworks.xgboost` do.

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

        return replace(plain, evaluate=evaluate, configure=lambda here: {BOOSTERS: here.cohort, **plain.configure(here)})

    def _ask_evaluate_function(self, here: Round, parameters: Parameters) -> tuple[float, Metrics] | None:
        assert self.evaluate_function is not None  # algorithm() has looked
        return self.evaluate_function(here.number, parameters, {})

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        grown, left_out = _sifted(results, lambda result: [self.format.read(blob) for blob in self._boosters(result)])
        if not grown:
            return None, left_out
        try:
            boosters = [self.format.read(blob) for blob in _blobs(here.arrays())]
        except StrategyError as error:
            raise StrategyError(f"the present model is {error}") from None
        forms = {place: {self.format.form(one) for one in several} for place, several in grown.items()}
        usual = Counter(form for found in forms.values() for form in found).most_common(1)[0][0]
        usual = self.format.form(boosters[0]) if boosters else usual
        for place in [place for place, found in forms.items() if found != {usual}]:
            left_out[place] = "a booster of other columns or classes than most"
            del grown[place]
        if not grown:
            return None, left_out
        made = self.format.write([*boosters, *(one for several in grown.values() for one in several)])
        return Parameters([made], tensor_type=""), left_out


class FedXgbCyclic(_Growing):
    """One client after another boosts the same booster: in round r client r mod K trains, and its booster is the next.

    They evaluate in turns, too: one after each round with an evaluation.
    """

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), in_turns=True)

    def _combined(self, here: Round, results: Sequence[Result]) -> tuple[Parameters | None, _LeftOut]:
        def read(result: Result) -> bytes:
            booster = bytes(self._boosters(result)[-1])
            self.format.read(booster)
            return booster

        boosted, left_out = _sifted(results, read)
        return Parameters([boosted[max(boosted)]], tensor_type="") if boosted else None, left_out


class FedLgbBagging(FedXgbBagging):
    """As `FedXgbBagging`, with boosters of LightGBM, as the bytes of `Booster.model_to_string()`.

    Its clients are `umbel.frameworks.lightgbm.client(...)`. Others grow trees without `boost_from_average`, which would
    count each client's average once more.
    """

    format = LIGHTGBM


class FedLgbCyclic(FedXgbCyclic):
    """As `FedXgbCyclic`, with boosters of LightGBM, as the bytes of `Booster.model_to_string()`."""

    format = LIGHTGBM


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


def _network(result: Result) -> Params:
    network = Params.of([array for array in result.arrays() if not isinstance(array, Blob)])
    for spec, array in zip(network.schema.specs, network.arrays(), strict=True):
        if spec.is_float and not np.isfinite(array).all():
            raise StrategyError("a network that is not finite")
    return network
