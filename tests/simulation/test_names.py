"""Names of arrays, from the first client or `initial_parameters` to the last model."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

import umbel as fl
from umbel.runtime.transports.base import Proxy
from umbel.server.strategy import FedAdam, FedAvg, FLTrust, Krum
from umbel.server.strategy.aggregate import aggregate
from umbel.transforms import int8

MODEL = {"fc.weight": np.zeros((2, 3), "float32"), "bn.running_mean": np.zeros(3, "float32"), "bn.count": np.array(0)}
DELTA = {"fc.weight": 1, "bn.running_mean": 2, "bn.count": 3}


class Learner(fl.client.NumPyClient):
    """Adds to each array what belongs to its name, and answers in one of the ways in which people answer."""

    def __init__(self, cid: str) -> None:
        self.cid = int(cid)

    def get_parameters(self, config):
        return MODEL

    def fit(self, parameters, config):
        assert isinstance(parameters, list)
        assert parameters.names == tuple(MODEL)
        trained = {name: array + np.asarray(DELTA[name], array.dtype) for name, array in parameters.items()}
        ways = [trained, dict(reversed(trained.items())), [*trained.values()]]
        if self.cid == 3:
            for name in parameters.names:
                parameters[name] = trained[name]
        return [*ways, parameters][self.cid % 4], 10, {}

    def evaluate(self, parameters, config):
        return float(parameters["fc.weight"].mean()), 10, {"count": int(dict(parameters)["bn.count"])}


def run(strategy, clients=Learner, rounds=2, **keywords):
    given = {"progress": False, "num_clients": 4, "config": fl.server.ServerConfig(num_rounds=rounds)} | keywords
    return fl.simulation.start_simulation(client_fn=lambda cid: clients(cid), strategy=strategy, **given)


@pytest.mark.parametrize(
    "make",
    [
        FedAvg,
        lambda **k: FedAvg(initial_parameters=MODEL, **k),
        Krum,
        lambda **k: FedAdam(initial_parameters=MODEL, averaged=["bn.*"], **k),
        lambda **k: FedAvg(transform=int8(), **k),
    ],
    ids=["FedAvg", "initial_parameters", "Krum", "FedAdam", "int8"],
)
def test_names_go_all_the_way(make):
    seen = []

    def look(number, parameters, _):
        seen.append((parameters.names, parameters["bn.count"].item(), parameters["bn.running_mean"].tolist()))

    history = run(make(evaluate_fn=look))
    assert history.failures == []
    assert {names for names, *_ in seen} == {tuple(MODEL)}
    assert [count for _, count, _ in seen] == [0, 3, 6]
    assert np.allclose(seen[-1][2], 4, atol=0.05)
    assert history.metrics_distributed["count"][-1] == (2, 6.0)


@pytest.mark.parametrize("names", [[str(i) for i in range(12)], [f"{i:02}" for i in range(12)]], ids=["older", "now"])
def test_arrays_without_names_go_on_with_those_that_their_run_has(tmp_path, names):
    """An older Umbel called the tensors of twelve "0", …, "11"; a run of it that goes on does, too."""

    class Plain(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return [array + 1 for array in parameters], 10, {}

    class Averages(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            arrays = [fl.common.parameters_to_ndarrays(result.parameters) for _, result in results]
            return fl.common.ndarrays_to_parameters([sum(each) / len(each) for each in zip(*arrays, strict=True)]), {}

    initial = {name: np.full(3, i, "float32") for i, name in enumerate(names)}
    for strategy in (FedAvg, Averages):
        history = run(
            strategy(initial_parameters=initial, fraction_evaluate=0.0), lambda cid: Plain(), store=tmp_path, fresh=True
        )
        assert history.failures == []
        assert [*history.parameters.names] == names
        assert [array[0] for array in history.parameters] == [i + 2 for i in range(12)]


def test_programs_that_combine_by_themselves_go_by_name():
    one, other = {"a": np.zeros(2), "b": np.ones(2)}, {"b": np.full(2, 3.0), "a": np.full(2, 2.0)}
    assert [array[0] for array in aggregate([(one, 1), (other, 1)])] == [1, 2]
    with pytest.raises(ValueError, match="only results of the same names have a mean; the first has 'a', 'b'"):
        aggregate([(one, 1), ({"a": np.zeros(2), "c": np.ones(2)}, 1)])
    results = [answer(f"{i}", fl.common.ndarrays_to_parameters(arrays)) for i, arrays in enumerate([one, other])]
    made, _ = FedAvg().aggregate_fit(1, results, [])
    assert [(name, array[0]) for name, array in fl.common.parameters_to_ndarrays(made).items()] == [("a", 1), ("b", 2)]
    odd = answer("2", fl.common.ndarrays_to_parameters({"a": np.zeros(2), "c": np.ones(2)}))
    with pytest.raises(fl.errors.StrategyError, match="client 2 returned a mapping that has 'c', and the model"):
        FedAvg().aggregate_fit(1, [*results, odd], [])


def answer(cid, parameters):
    status = fl.common.Status(fl.common.Code.OK)
    return Proxy(cid, None), fl.common.FitRes(status, parameters, 1, {})


def test_a_servers_own_training_goes_by_name():
    def root_fit(number, arrays):
        assert arrays.names == tuple(MODEL)
        return {name: arrays[name] + np.asarray(DELTA[name], arrays[name].dtype) for name in reversed(arrays.names)}

    history = run(FLTrust(root_fit=root_fit, initial_parameters=MODEL))
    assert history.failures == []
    assert history.parameters["bn.running_mean"].tolist() == [4, 4, 4]


def test_over_the_network_too():
    """The names, the orders of answers, and a model that outlives a server without a store."""
    histories = []
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()

    def serve():
        histories.append(
            fl.server.start_server(
                server_address=address, config=fl.server.ServerConfig(num_rounds=2), store=None,
                strategy=FedAvg(initial_parameters=MODEL, min_fit_clients=4, min_available_clients=4, fraction_evaluate=0.0),
            )
        )  # fmt: skip

    clients = [lambda cid=cid: fl.client.start_client(server_address=address, client=Learner(cid)) for cid in "0123"]
    threads = [threading.Thread(target=each, daemon=True) for each in [serve, *clients]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (history,) = histories
    assert history.failures == []
    assert history.parameters.names == tuple(MODEL)
    assert history.parameters["bn.count"] == 6
    assert history.parameters["bn.running_mean"].tolist() == [4, 4, 4]


def test_a_strategy_of_ones_own_may_forget_the_names():
    class Forgetful(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = super().configure_fit(server_round, parameters, client_manager)
            arrays = list(fl.common.parameters_to_ndarrays(parameters))
            return [(client, fl.common.FitIns(fl.common.ndarrays_to_parameters(arrays), {})) for client, _ in chosen]

        def aggregate_fit(self, server_round, results, failures):
            made, metrics = super().aggregate_fit(server_round, results, failures)
            arrays = fl.common.parameters_to_ndarrays(made)
            by_name = dict(reversed(arrays.items()))
            return fl.common.ndarrays_to_parameters(list(arrays) if server_round == 1 else by_name), metrics

    history = run(Forgetful(initial_parameters=MODEL), rounds=3)
    assert history.failures == []
    assert history.metrics_distributed["count"][-1] == (3, 9.0)


@pytest.mark.parametrize(
    ("initial", "returned", "text"),
    [
        (MODEL, {**MODEL, "fc.bias": np.zeros(1)}, "has 'fc.bias', shape (1,), which the model does not have"),
        (MODEL, {"fc.weight": MODEL["fc.weight"]}, "lacks 'bn.running_mean', shape (3,) and 1 more. Return every array"),
        (MODEL, {**MODEL, "bn.count": np.zeros(2)}, "'bn.count' (array 2) with shape (2,), the model has () there"),
        (MODEL, [*MODEL.values()][:2], "2 arrays, the model has 3 (missing 'bn.count', shape ())"),
        ([*MODEL.values()], MODEL, "the model's arrays have no names, because it began as a list"),
    ],
    ids=["unexpected", "missing", "misshapen", "short list", "a model without names"],
)
@pytest.mark.parametrize("transform", [None, int8()], ids=["plain", "int8"])
def test_what_is_odd_about_names_is_said(initial, returned, text, transform):
    class Odd(Learner):
        def fit(self, parameters, config):
            return returned, 10, {}

    history = run(FedAvg(initial_parameters=initial, fraction_evaluate=0.0, transform=transform), Odd, rounds=1)
    assert text in history.failures[0].text
