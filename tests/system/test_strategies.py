"""Every strategy over HTTP with real sockets, and simulated: the same versions of the model, bit for bit."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from functools import partial

import numpy as np
import pytest

import umbel as fl
from umbel.common import Parameters, ndarrays_to_parameters
from umbel.server import strategy as strategies

pytestmark = pytest.mark.system

ROUNDS, CLIENTS = 3, 5


class Member(fl.client.NumPyClient):
    """Goes half the way to a point of its own."""

    def __init__(self, name):
        self.point = float(int(name) + 1)

    def fit(self, parameters, config):
        loss = float(np.mean((parameters[0] - self.point) ** 2))
        return [(a + 0.5 * (self.point - a)).astype(a.dtype) for a in parameters], 10 + int(self.point), {"loss": loss}

    def evaluate(self, parameters, config):
        return float(np.abs(parameters[0]).mean()), 10, {}


class Grower(fl.client.NumPyClient):
    """Grows a tree on the boosters that it is given, JSON as xgboost writes it; a network goes first, if there is one."""

    def __init__(self, name):
        self.name = name

    def fit(self, parameters, config):
        networks = [array + 1 for array in parameters if array.dtype == "float32"]
        known = zlib.crc32(b"".join(array.tobytes() for array in parameters))
        model = {
            "gbtree_model_param": {"num_trees": "1", "num_parallel_tree": "1"},
            "iteration_indptr": [0, 1],
            "tree_info": [0],
            "trees": [{"id": 0, "split_conditions": [int(self.name) / 7, known]}],
        }
        booster = {"learner": {"gradient_booster": {"model": model, "name": "gbtree"}}}
        return [*networks, json.dumps(booster).encode()], 10, {}

    def evaluate(self, parameters, config):
        return float(len(parameters[-1])), 10, {}


class Liar(Member):
    """Tells the truth once; then what it sends is finite, and far away."""

    def fit(self, parameters, config):
        trained, count, metrics = super().fit(parameters, config)
        return [(a * 1000).astype(a.dtype) for a in trained] if config["round"] > 1 else trained, count, metrics


def client_of(name, cid):
    if name == "bounded" and cid == "3":
        return Liar(cid)
    return (Grower if name in BOOSTING else Member)(cid)


def initial():
    return [np.linspace(-1, 1, 300, dtype="float32").reshape(3, 100), np.zeros(7), np.arange(4)]


def evaluate(number, arrays, config):
    """A checksum of the version, so that a History tells its bits."""
    return float(zlib.crc32(b"".join(array.tobytes() for array in arrays))), {}


def root_fit(number, arrays):
    return [(a + 0.5 * (3 - a)).astype(a.dtype) for a in arrays]


KEYWORDS = {
    "FedAvgM": {"server_momentum": 0.5},
    "FedProx": {"proximal_mu": 0.1},
    "Krum": {"num_malicious_clients": 1},
    "MultiKrum": {"num_malicious_clients": 1},
    "CenteredClipping": {"clipping_radius": 5.0, "iterations": 2},
    "FLTrust": {"root_fit": root_fit},
}
BOOSTING = ["FedXgbBagging", "FedXgbCyclic", "FedXgbNnAvg"]
# Those of LightGBM are these with another format of boosters (tests/strategies/test_boosting.py).
NAMES = sorted(set(strategies.__all__) - {"Strategy", "FedLgbBagging", "FedLgbCyclic"})


def made(name):
    common = {
        "initial_parameters": ndarrays_to_parameters(initial()),
        "evaluate_fn": evaluate,
        "min_fit_clients": CLIENTS,
        "min_available_clients": CLIENTS,
    }
    if name == "bounded":
        rounds = {"on_fit_config_fn": lambda number: {"round": number}}
        return strategies.FedAvgM(server_momentum=0.5, max_update_norm="auto", **rounds, **common)
    if name in BOOSTING:
        network = [np.zeros(3, "float32")] if name == "FedXgbNnAvg" else []
        empty = ndarrays_to_parameters(network) if network else Parameters([], tensor_type="")
        judge = {"evaluate_function": lambda n, parameters, _: evaluate(n, parameters.arrays(), {})} if "Bag" in name else {}
        return getattr(strategies, name)(**{**common, **judge, "initial_parameters": empty})
    if name == "Bucketing":
        return strategies.Bucketing(strategies.FedMedian(**common), bucket_size=2)
    if name == "NearestNeighbourMixing":
        return strategies.NearestNeighbourMixing(strategies.GeometricMedian(**common), num_malicious_clients=1)
    if name == "PowerOfChoice":
        few = strategies.FedAvg(**{**common, "min_fit_clients": 2, "fraction_fit": 0.1})
        return strategies.PowerOfChoice(few, candidates=4)
    return getattr(strategies, name)(**KEYWORDS.get(name, {}), **common)


def over_http(name, client=None):
    """The History of a run over HTTP: of a strategy by its name, or of this one, with clients that `client` makes."""
    strategy = made(name) if isinstance(name, str) else name
    client = client or partial(client_of, name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    histories = []

    def serve():
        config = fl.server.ServerConfig(num_rounds=ROUNDS)
        histories.append(
            fl.server.start_server(server_address=address, config=config, strategy=strategy, seed=5, store=None)
        )

    threads = [threading.Thread(target=serve)]
    for each in map(str, range(CLIENTS)):
        options = {"server_address": address, "client": client(each), "client_id": each}
        threads.append(threading.Thread(target=fl.client.start_client, kwargs=options))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return histories[0]


def simulated(name, backend):
    return fl.simulation.start_simulation(
        client_fn=partial(client_of, name),
        num_clients=CLIENTS,
        config=fl.server.ServerConfig(num_rounds=ROUNDS),
        strategy=made(name),
        backend=backend,
        workers=2,
        seed=5,
        progress=False,
    )


ASYNCHRONOUS = ["FedAsync", "FedBuff"]  # whose rounds are made by who comes first


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_over_http_an_asynchronous_strategy_makes_its_versions(name):
    history = over_http(name)
    versions = [crc for _, crc in history.losses_centralized]
    assert len(set(versions)) == len(versions) == ROUNDS + 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ASYNCHRONOUS])
def test_over_http_and_simulated_it_makes_the_same_versions(name):
    history = over_http(name)
    versions = [crc for _, crc in history.losses_centralized]
    assert len(set(versions)) == len(versions) == ROUNDS + (name != "FedXgbBagging")  # which judges no empty model
    assert simulated(name, "inline") == history


def test_candidates_evaluate_at_the_same_time():
    """Each waits for all the others to be asked."""
    met = threading.Barrier(CLIENTS, timeout=30)

    class Meets(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            met.wait()
            return 0.5, 1, {}

    few = {"fraction_fit": 0.1, "min_fit_clients": 2, "fraction_evaluate": 0.0, "min_available_clients": CLIENTS}
    initial = fl.common.ndarrays_to_parameters([np.zeros(3, np.float32)])
    strategy = strategies.PowerOfChoice(strategies.FedAvg(initial_parameters=initial, **few), candidates=CLIENTS)
    assert over_http(strategy, lambda _: Meets()).failures == []


def test_over_http_and_simulated_the_same_updates_are_too_large():
    history = over_http("bounded")
    assert [(note.round, note.client) for note in history.failures] == [(2, "3"), (3, "3")]
    assert all("norm" in note.text and "the limit is" in note.text for note in history.failures)
    assert simulated("bounded", "inline") == history


@pytest.mark.parametrize("name", ["FedAdam", "FedAvgM", "CenteredClipping", "Bucketing"])
def test_worker_processes_change_no_bit(name):
    assert simulated(name, "processes") == simulated(name, "inline")
