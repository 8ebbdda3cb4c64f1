"""The checks pass for all that Umbel has, and find what is wrong with others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from umbel.aggregators import (
    Aggregator,
    Rule,
    bucketed,
    bulyan,
    centered_clipping,
    fair,
    geometric_median,
    krum,
    mean,
    median,
    nearest_neighbours,
    trimmed_mean,
)
from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.optimizers import Optimizer
from umbel.server import strategy as strategies
from umbel.server.strategy import FedAdam, FedAvg
from umbel.testing import check_aggregator, check_strategy
from umbel.until import Until

AGGREGATORS = {
    "mean": mean(),
    "median": median(),
    "trimmed mean": trimmed_mean(0.2),
    "Krum": krum(3),
    "Multi-Krum": krum(3, None),
    "Bulyan": bulyan(3),
    "geometric median": geometric_median(),
    "centered clipping": centered_clipping(10.0, 2),
    "q-FedAvg": fair(0.2, 0.1),
    "buckets": bucketed(median(), 2),
    "mixed": nearest_neighbours(krum(3), 3),
}


@pytest.mark.parametrize("aggregator", AGGREGATORS.values(), ids=AGGREGATORS.keys())
def test_every_aggregator_passes(aggregator):
    check_aggregator(aggregator)


def initial():
    return ndarrays_to_parameters([np.zeros(5, "float32")])


def root_fit(number, arrays):
    return [arrays[0] + 0.5 * (np.arange(1, 6, dtype="float32") / 5 - arrays[0])]


STRATEGIES = {
    "FedAvg": lambda: strategies.FedAvg(),
    "FedAvgM": lambda: strategies.FedAvgM(server_momentum=0.5, server_learning_rate=0.5),
    "FedProx": lambda: strategies.FedProx(proximal_mu=0.1),
    "FedOpt": lambda: strategies.FedOpt(initial_parameters=initial()),
    "FedAdagrad": lambda: strategies.FedAdagrad(initial_parameters=initial()),
    "FedAdam": lambda: strategies.FedAdam(initial_parameters=initial()),
    "FedYogi": lambda: strategies.FedYogi(initial_parameters=initial(), eta=0.1),
    "QFedAvg": lambda: strategies.QFedAvg(),
    "FaultTolerantFedAvg": lambda: strategies.FaultTolerantFedAvg(),
    "FedMedian": lambda: strategies.FedMedian(),
    "FedTrimmedAvg": lambda: strategies.FedTrimmedAvg(),
    "Krum": lambda: strategies.Krum(num_malicious_clients=2),
    "MultiKrum": lambda: strategies.MultiKrum(num_malicious_clients=2),
    "Bulyan": lambda: strategies.Bulyan(num_malicious_clients=2),
    "GeometricMedian": lambda: strategies.GeometricMedian(),
    "CenteredClipping": lambda: strategies.CenteredClipping(clipping_radius=1.0),
    "Bucketing": lambda: strategies.Bucketing(strategies.GeometricMedian()),
    "NearestNeighbourMixing": lambda: strategies.NearestNeighbourMixing(strategies.FedMedian(), num_malicious_clients=2),
    "FedBuff": lambda: strategies.FedBuff(buffer_size=4, concurrency=8),
    "FedAsync": lambda: strategies.FedAsync(concurrency=4),
    "PowerOfChoice": lambda: strategies.PowerOfChoice(strategies.FedAvg(min_fit_clients=4, fraction_fit=0.1), candidates=8),
    "FLTrust": lambda: strategies.FLTrust(root_fit=root_fit),
}


def test_every_strategy_of_the_street_is_checked():
    boosting = {"FedLgbBagging", "FedLgbCyclic", "FedXgbBagging", "FedXgbCyclic", "FedXgbNnAvg"}
    assert set(STRATEGIES) == set(strategies.__all__) - {"Strategy"} - boosting


@pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_strategy_passes(make):
    check_strategy(make, rounds=15)


def test_a_strategy_that_ends_its_run_passes():
    check_strategy(lambda: strategies.FedAvg(until=Until(at_most=1e-3)))


def test_a_strategy_that_wants_more_clients_than_there_are_is_told():
    with pytest.raises(StrategyError, match="asks for 20 clients, there are 12"):
        check_strategy(lambda: strategies.FedAvg(min_fit_clients=20, min_available_clients=20))


# ---- what the checks find


def broken_mean(**parts):
    return mean()._replace(**parts)


def add_in_place(acc, block, weight):
    block *= weight
    return mean().add(acc, block, 1)


@pytest.mark.parametrize(
    ("aggregator", "text"),
    [
        (broken_mean(add=add_in_place), "changed the block that it was given"),
        (broken_mean(merge=lambda acc, other: other), "is not adding them|another"),
        (broken_mean(finish=lambda acc, dtype: mean().finish(acc, dtype) / 2), "equal updates did not come back"),
        (broken_mean(add=lambda acc, block, weight: mean().add(acc, block, weight**2)), "three such updates"),
        (broken_mean(finish=lambda acc, dtype: mean().finish(acc, np.dtype("float64"))), "became float64"),
        (Aggregator(lambda d: None, lambda a, b, w: b, lambda a, b: b, lambda a, d: a.astype(d)), "another"),
        (Rule("half", 1, "", reduce=lambda rows: rows[0] / 2), "changed the model"),
        (Rule("neighbours", 1, "", reduce=lambda rows: rows[0] + rows[0].max() - rows[1].max()), "its neighbours"),
        (krum(3)._replace(plan=lambda cohort: np.full((1, len(cohort.gram)), 1.0)), "times as far"),
    ],
)
def test_what_is_wrong_with_an_aggregator_is_found(aggregator, text):
    with pytest.raises(AssertionError, match=text):
        check_aggregator(aggregator)


class Forgets(FedAdam):
    """Keeps its momentum in an attribute."""

    moment = 0.0

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        if parameters is None:
            return None, metrics
        arrays = parameters.arrays()
        self.moment = 0.5 * self.moment + 0.001 * arrays[0]
        return ndarrays_to_parameters([arrays[0] + self.moment]), metrics


class Backwards(FedAvg):
    def algorithm(self):
        away = Optimizer(lambda number, old, combined, slots: (old() - 0.1 * (combined - old()), ()))
        return replace(super().algorithm(), optimizer=away)


class Drifts(FedAvg):
    def algorithm(self):
        return replace(super().algorithm(), optimizer=Optimizer(lambda number, old, combined, slots: (combined + 0.01, ())))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Forgets(initial_parameters=initial()), "something is in attributes only|change nothing"),
        (Backwards, "from the optimum"),
        (Drifts, "change nothing made"),
    ],
)
def test_what_is_wrong_with_a_strategy_is_found(make, text):
    with pytest.raises(AssertionError, match=text):
        check_strategy(make, rounds=15)


def test_a_rule_that_makes_nan_is_found():
    spoils = Rule("spoils", 1, "an update", reduce=lambda rows: rows[0] * np.nan)
    with pytest.raises(AssertionError, match="float64 became infinite or NaN"):
        check_aggregator(spoils)
