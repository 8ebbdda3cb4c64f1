"""Strategies that withstand attackers: FedAvg with a rule in place of the mean.

A rule that needs a number of updates is never given a cohort too small for it: `min_fit_clients` is raised where it has its
default, and refused where it was set too low. A round in which too many clients fail is void: the model stays, and the run
goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Unpack

from umbel.aggregators import (
    Rule,
    bucketed,
    bulyan,
    centered_clipping,
    fltrust,
    geometric_median,
    krum,
    median,
    nearest_neighbours,
    trimmed_mean,
)
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError
from umbel.keywords import checked
from umbel.params import NDArrays
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.around import Around
from umbel.strategies.doubting import Doubting
from umbel.strategies.fedavg import Classic, FedAvg

__all__ = [
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "FLTrust",
    "FedMedian",
    "FedTrimmedAvg",
    "GeometricMedian",
    "Krum",
    "MultiKrum",
    "NearestNeighbourMixing",
]


class _Robust(Doubting):
    """FedAvg with a rule, and as wary of what clients report as of their updates."""

    def _rule(self) -> Rule:
        raise NotImplementedError

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), aggregator=self._rule())


def _check(strategy: FedAvg) -> None:
    """Raises `ValueError` for numbers that make no sense, and for a cohort that would be too small for the rule."""
    algorithm = strategy.algorithm()
    rule = algorithm.aggregator
    assert isinstance(rule, Rule)
    promised = max(strategy.min_fit_clients, int(strategy.min_available_clients * strategy.fraction_fit))
    if 2 < promised < rule.least:  # 2 is what nobody has asked for
        raise ValueError(
            f"{rule.name} needs {rule.why}, which is {rule.least} updates at least, and a cohort may be of {promised}; "
            f"set min_fit_clients={rule.least}, or expect fewer attackers"
        )
    goal = algorithm.pace.goal
    if goal is not None and goal < rule.least:
        raise ValueError(
            f"{rule.name} needs {rule.why}, which is {rule.least} updates at least, and a round closes with {goal}; "
            f"set Pace(goal={rule.least}), or expect fewer attackers"
        )


class FedMedian(_Robust):
    """The coordinatewise median of the updates; numbers of examples do not count.

    Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", Definition 1. Of an even
    number of updates it is the mean of the two in the middle.
    """

    def _rule(self) -> Rule:
        return median()


class FedTrimmedAvg(_Robust):
    """The coordinatewise mean without the int(β·K) smallest and largest values; numbers of examples do not count.

    Yin et al. 2018, Definition 2. β·K is a product of floats, as in flwr: 0.29 of 100 is 28.

    - `beta`: part that is cut off on each side, at least 0 and below 0.5
    """

    @checked
    def __init__(self, *, beta: float = 0.2, **classic: Unpack[Classic]) -> None:
        super().__init__(**classic)
        self.beta = beta
        _check(self)

    def _rule(self) -> Rule:
        return trimmed_mean(self.beta)


class Krum(_Robust):
    """The update with the least s(i) = Σ ‖xᵢ − xⱼ‖² over the K − f − 2 updates nearest to it.

    Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 4; needs
    K ≥ 2f + 3, which flwr does not check. Distances are between floating tensors: a counter of batches does not decide.

    - `num_malicious_clients`: f
    - `num_clients_to_keep`: 0 takes the best update as it is; m > 0 takes the mean of the m best (Multi-Krum, section 5.3).
      It is the plain mean, as in the paper; flwr weighs it by numbers of examples, which an attacker chooses.
    """

    @checked
    def __init__(
        self, *, num_malicious_clients: int = 0, num_clients_to_keep: int = 0, **classic: Unpack[Classic]
    ) -> None:
        super().__init__(**classic)
        self.num_malicious_clients = num_malicious_clients
        self.num_clients_to_keep = num_clients_to_keep
        _check(self)

    def _rule(self) -> Rule:
        return krum(self.num_malicious_clients, self.num_clients_to_keep or 1)


class MultiKrum(_Robust):
    """The plain mean of the `num_clients_to_keep` updates with the best Krum scores; None: of all but f.

    Blanchard et al. 2017, section 5.3. Needs K ≥ 2f + 3.
    """

    @checked
    def __init__(
        self, *, num_malicious_clients: int = 0, num_clients_to_keep: int | None = None, **classic: Unpack[Classic]
    ) -> None:
        super().__init__(**classic)
        self.num_malicious_clients = num_malicious_clients
        self.num_clients_to_keep = num_clients_to_keep
        _check(self)

    def _rule(self) -> Rule:
        return krum(self.num_malicious_clients, self.num_clients_to_keep)


class Bulyan(_Robust):
    """Krum elects K − 2f updates one after another; then, of each coordinate, the mean of the K − 4f nearest to the median.

    El Mhamdi, Guerraoui, Rouault 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium", section 4. Needs
    K ≥ 4f + 3.

    - `num_malicious_clients`: f
    - `first_aggregation_rule`, `to_keep`: the electing rule and its argument, which flwr's users had to give; it is Krum
    """

    @checked
    def __init__(
        self,
        *,
        num_malicious_clients: int = 0,
        first_aggregation_rule: Callable[..., NDArrays] | None = None,
        to_keep: int = 0,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(**classic)
        if to_keep or getattr(first_aggregation_rule, "__name__", "aggregate_krum") != "aggregate_krum":
            raise ValueError("Bulyan elects one update at a time by Krum: leave first_aggregation_rule and to_keep out")
        self.num_malicious_clients = num_malicious_clients
        _check(self)

    def _rule(self) -> Rule:
        return bulyan(self.num_malicious_clients)


class GeometricMedian(_Robust):
    """RFA: the point with the least sum of distances to all updates, by the smoothed Weiszfeld algorithm.

    Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning", Algorithm 2. It differs in two points: by
    default all clients count alike, as in the Byzantine literature, and in the first point those that are far from most
    others count little.

    - `iterations`: of the algorithm; the paper finds 3 enough without attackers
    - `smoothing`: ν, the least distance that counts
    - `by_examples`: whether clients count by their numbers of examples, as in the paper. None counts by more than the median
      of what all claim: who claims 10⁷ examples would otherwise be the result.
    """

    @checked
    def __init__(
        self,
        *,
        iterations: int = 8,
        smoothing: float = 1e-6,
        by_examples: bool = False,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(**classic)
        self.iterations = iterations
        self.smoothing = smoothing
        self.by_examples = by_examples
        _check(self)

    def _rule(self) -> Rule:
        return geometric_median(self.iterations, self.smoothing, by_examples=self.by_examples)

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), weigh=self._weigh)

    def _weigh(self, _: Round, results: Sequence[Result]) -> list[float]:
        claimed = [result.num_examples for result in results]
        if not self.by_examples:
            return [*map(float, claimed)]
        most = max(median_low(claimed), 1)
        return [min(count, most) for count in claimed] if any(claimed) else [1.0] * len(claimed)


class CenteredClipping(_Robust):
    """v ← v + (1/K) Σ (Δᵢ − v) · min(1, τ / ‖Δᵢ − v‖), from the last round's v; the model moves by v.

    Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization", Algorithm 2. Δᵢ is the i-th
    update's difference to the model; the paper's workers send momenta, here that is for the client to do.

    - `clipping_radius`: τ, in units of the difference that an honest update makes
    - `iterations`: of the formula in each round
    """

    @checked
    def __init__(self, *, clipping_radius: float = 10.0, iterations: int = 1, **classic: Unpack[Classic]) -> None:
        super().__init__(**classic)
        self.clipping_radius = clipping_radius
        self.iterations = iterations
        _check(self)

    def _rule(self) -> Rule:
        return centered_clipping(self.clipping_radius, self.iterations)


class FLTrust(_Robust):
    """Σ TSᵢ·(‖Δ₀‖/‖Δᵢ‖)·Δᵢ / Σ TSᵢ with TSᵢ = max(0, cos(Δᵢ, Δ₀)), where Δ₀ is what the server has learned by itself.

    Cao et al. 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", equations 2 to 4.

    - `root_fit(round, arrays)` → arrays: trains a copy of the present model on the server's own small, clean data set, as a
      client would, and returns it
    """

    @checked
    def __init__(self, *, root_fit: Callable[[int, NDArrays], NDArrays], **classic: Unpack[Classic]) -> None:
        super().__init__(**classic)
        self.root_fit = root_fit
        _check(self)

    def _rule(self) -> Rule:
        return fltrust()

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), guide=self._guide)

    def _guide(self, here: Round, _: Sequence[Result]) -> NDArrays:
        arrays = here.arrays()
        if arrays is None:
            raise StrategyError("FLTrust needs the version that the clients started from: give it initial_parameters")
        trained = self.root_fit(here.number, arrays)
        if trained is None:
            raise StrategyError("root_fit() returned None; return the trained arrays")
        return trained


class _Mixing(Around, Doubting):
    """A robust strategy whose updates are mixed first. It is that strategy in everything else, with the attributes that it
    has now.
    """

    def _prepares(self, strategy: FedAvg) -> None:
        if not isinstance(strategy.algorithm().aggregator, Rule):
            raise TypeError(f"{type(self).__name__} prepares updates for a robust rule; {type(strategy).__name__} has none")
        _check(self)


def _mix(algorithm: Algorithm, mixing: Callable[[Rule], Rule]) -> Algorithm:
    assert isinstance(algorithm.aggregator, Rule)
    return replace(algorithm, aggregator=mixing(algorithm.aggregator))


class Bucketing(_Mixing):
    """Another robust strategy over the means of random buckets of updates: what is left of honest clients' differences is
    smaller, so that a rule is not misled by them.

    Karimireddy, He, Jaggi 2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", Algorithm 1.
    `Bucketing(GeometricMedian(), bucket_size=2)`. The other strategy's f counts buckets.
    """

    @checked
    def __init__(self, strategy: FedAvg, *, bucket_size: int = 2) -> None:
        self.bucket_size = bucket_size
        self._prepares(strategy)

    def algorithm(self) -> Algorithm:
        return _mix(super().algorithm(), lambda rule: bucketed(rule, self.bucket_size))


class NearestNeighbourMixing(_Mixing):
    """Another robust strategy over the updates, each replaced by the mean of its K − f nearest, itself included.

    Allouah et al. 2023, "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", Algorithm 2.
    `NearestNeighbourMixing(FedTrimmedAvg(), num_malicious_clients=2)`.
    """

    @checked
    def __init__(self, strategy: FedAvg, *, num_malicious_clients: int = 0) -> None:
        self.num_left_out = num_malicious_clients
        self._prepares(strategy)

    def algorithm(self) -> Algorithm:
        return _mix(super().algorithm(), lambda rule: nearest_neighbours(rule, self.num_left_out))
