"""Federated analytics: nobody has parameters, clients answer with metrics, or with arrays that are no model."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import umbel as fl
from umbel.common import ndarrays_to_parameters, parameters_to_ndarrays
from umbel.params import Params
from umbel.server import strategy as strategies
from umbel.testing import run_locally

TAKES = {
    "Krum": {"num_malicious_clients": 0},
    "MultiKrum": {"num_malicious_clients": 0},
    "Bulyan": {"num_malicious_clients": 0},
    "FedProx": {"proximal_mu": 0.1},
    "FedBuff": {"buffer_size": 2, "concurrency": 6},
}
CLASSES = [
    cls
    for name, cls in sorted(inspect.getmembers(strategies, inspect.isclass))
    if issubclass(cls, strategies.FedAvg) and cls.receives != "anything"
]


def needs_parameters(cls):
    """Of its own, or those of another strategy."""
    named = inspect.signature(cls.__init__).parameters
    asked = {name for name, each in named.items() if each.default is each.empty and each.kind is not each.VAR_KEYWORD}
    return bool(asked - {"self", *TAKES.get(cls.__name__, {})})


class Counts(fl.client.NumPyClient):
    """Tells how many rows it has, and their mean."""

    def __init__(self, rows):
        self.rows = np.arange(rows)

    def fit(self, parameters, config):
        assert parameters == []
        return [], len(self.rows), {"rows": len(self.rows), "loss": 0.5}

    def evaluate(self, parameters, config):
        assert parameters == []
        return float(self.rows.mean()), len(self.rows), {"mean": float(self.rows.mean())}


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if not needs_parameters(cls)], ids=lambda cls: cls.__name__)
def test_every_strategy_goes_on_with_an_empty_model(cls):
    clients = {f"client-{i}": Counts(10 * i + 10) for i in range(6)}
    run = run_locally(cls(**TAKES.get(cls.__name__, {})), clients, num_rounds=2)
    assert run.history.losses_distributed[0][0] == 1
    assert [number for number, _ in run.history.metrics_distributed_fit["rows"]] == [1, 2]
    assert run.history.failures == []
    assert run.arrays == []


@pytest.mark.parametrize("backend", ["inline", pytest.param("processes", marks=pytest.mark.system)])
def test_in_a_simulation_as_locally(backend, tmp_path):
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: Counts(10 * int(cid) + 10),
        num_clients=5,
        config=fl.server.ServerConfig(num_rounds=2),
        backend=backend,
        workers=2,
        progress=False,
        store=tmp_path,
    )
    assert history.metrics_distributed_fit["rows"] == [(1, 5500 / 150), (2, 5500 / 150)]
    assert history.failures == []
    (model,) = tmp_path.glob("*/model-000002.safetensors")
    assert Params.from_bytes(model.read_bytes()).arrays() == []


class Histograms(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return [np.histogram(np.arange(10), bins=5)[0]], 10, {}


class Sums(strategies.Strategy):
    """Adds up what the clients have counted: the sum becomes the model."""

    def initialize_parameters(self, client_manager):
        return None

    def configure_fit(self, server_round, parameters, client_manager):
        return [(client, fl.common.FitIns(parameters, {})) for client in client_manager.sample(2, 2)]

    def aggregate_fit(self, server_round, results, failures):
        return ndarrays_to_parameters([sum(parameters_to_ndarrays(res.parameters)[0] for _, res in results)]), {}

    def evaluate(self, server_round, parameters):
        return None

    def configure_evaluate(self, server_round, parameters, client_manager):
        return []

    def aggregate_evaluate(self, server_round, results, failures):
        return None, {}


def test_what_clients_count_may_become_the_model():
    run = run_locally(Sums(), {"a": Histograms(), "b": Histograms()}, num_rounds=2)
    assert [array.tolist() for array in run.arrays] == [[4] * 5]


def test_a_run_begins_with_the_parameters_of_whoever_has_some():
    class Trains(Counts):
        def get_parameters(self, config):
            return [np.full(3, 7.0)]

        def fit(self, parameters, config):
            return [parameters[0] + 1], 1, {}

        def evaluate(self, parameters, config):
            return float(parameters[0][0]), 1, {}

    class WithoutAny(Trains):
        def get_parameters(self, config):
            return []

    clients = {"a": WithoutAny(1), "b": WithoutAny(1), "c": Trains(1)}
    run = run_locally(strategies.FedAvg(), clients, num_rounds=1)
    assert run.arrays[0].tolist() == [8.0] * 3
    assert run.history.failures == []


def test_arrays_where_the_model_has_none_are_refused_by_a_strategy_that_averages():
    run = run_locally(strategies.FedAvg(), {"a": Histograms(), "b": Counts(10)}, num_rounds=1)
    assert "fit() returned 1 arrays, the model has 0" in run.history.failures[0].text
    assert run.arrays == []
