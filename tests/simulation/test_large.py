"""A million clients, and states that outgrow memory: what is not sampled costs nothing."""

from __future__ import annotations

import gc
import os
import time
import tracemalloc

import numpy as np
import pytest
from members import fedavg, initial

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.runtime.transports.simulated.states import States, decode_state, encode_state, pack
from umbel.server.strategy import FedAvg, FedMedian
from umbel.simulation import start_simulation


class Counting(fl.client.NumPyClient):
    made = 0

    def __init__(self, context):
        Counting.made += 1
        self.context = context

    def fit(self, parameters, config):
        self.context.state["rounds"] = self.context.state.get("rounds", 0) + 1
        return parameters, 1, {"name": int(self.context.node_id), "of": self.context.node_config["num-partitions"]}


def simulate(clients, rounds=5, **options):
    strategy = FedAvg(
        initial_parameters=ndarrays_to_parameters(initial()),
        fraction_fit=100 / clients,
        min_fit_clients=100,
        fraction_evaluate=0.0,
    )
    config = fl.server.ServerConfig(num_rounds=rounds)
    return start_simulation(
        client_fn=Counting, num_clients=clients, config=config, strategy=strategy, backend="inline", **options
    )


def test_nothing_is_made_for_clients_that_are_not_sampled():
    Counting.made = 0
    tracemalloc.start()
    history = simulate(1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Counting.made == 5 * 100 + 1  # one for a trial
    assert peak < 30e6
    assert history.metrics_distributed_fit["of"] == [(n, 1e6) for n in (1, 2, 3, 4, 5)]
    assert all(300_000 < mean < 700_000 for _, mean in history.metrics_distributed_fit["name"])


def test_a_round_of_a_million_costs_what_a_round_of_a_thousand_does():
    def seconds(clients):
        started = time.process_time()
        simulate(clients, rounds=20)
        return time.process_time() - started

    simulate(1000, rounds=2)
    assert min(seconds(1_000_000) for _ in range(3)) < 2 * min(seconds(1_000) for _ in range(3))


def test_a_strategy_that_looks_at_everybody_still_may():
    class Everybody(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            everybody = client_manager.all()
            return [(everybody[cid], fl.common.FitIns(parameters, {})) for cid in ("7", "3")]

    strategy = fedavg(Everybody, fraction_evaluate=0.0)
    history = start_simulation(client_fn=Counting, num_clients=50, strategy=strategy, backend="inline")
    assert history.metrics_distributed_fit["name"] == [(1, 5.0)]


# ---- states


@pytest.mark.parametrize(
    "state",
    [
        {"a": 1, "b": 2.5, "c": "text", "d": b"\0\1", "e": None, "f": True},
        {"nested": {"list": [1, [2, {"x": np.arange(3)}]]}},
        {"scalar": np.float32(0.5), "half": np.ones(3, "float16")},
        {"empty": np.zeros((0, 4)), "zero-d": np.array(5)},
    ],
)
def test_a_state_comes_back_as_it_was(state):
    back = decode_state(encode_state(state))
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in state.items()}
    assert repr(back) == repr(plain)


def test_arrays_of_a_state_may_be_changed():
    back = decode_state(encode_state({"momentum": np.zeros(3)}))
    back["momentum"] += 1


@pytest.mark.parametrize("thing", [object(), lambda: 0, {1, 2}, 1j, np.array(["a"]), np.array([object()]), 2**70])
def test_what_is_no_data_is_not_kept(thing):
    with pytest.raises(fl.errors.WireError, match=r"context\.state holds what cannot be kept"):
        encode_state({"thing": thing})
    with pytest.raises(fl.errors.WireError, match=r"the memory of sparse holds what cannot be kept"):
        pack({"steps": 3}, {"sparse": {"thing": thing}})


def test_only_clients_that_have_kept_something_are_looked_for():
    asked = []
    states = States(lambda client: asked.append(client) or b"kept", {"a", "b"})
    states.put("b", b"newer")
    assert [states.get(client) for client in "abc"] == [b"kept", b"newer", b""]
    assert asked == ["a"]


def test_states_beyond_a_size_lie_in_a_file_which_does_not_grow_by_rewriting():
    states = States(in_memory=1000)
    for turn in range(50):
        for client in range(20):
            states.put(str(client), bytes([turn]) * 100)
    assert [states.get(str(client)) for client in range(20)] == [bytes([49]) * 100] * 20
    assert sum(map(len, states._held.values())) <= 1000
    assert states._file.seek(0, 2) <= 20 * 100
    states.put("19", b"longer" * 100)
    assert states.get("19") == b"longer" * 100
    assert set(states.take_changed()) == {str(client) for client in range(20)}
    assert list(states.take_changed()) == []
    states.close()


def test_the_updates_of_a_simulation_that_has_ended_are_not_on_the_disk_any_more():
    def open_files():
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).endswith("(deleted)") for link in links if os.path.islink(link))

    gc.collect()
    before = open_files()
    gc.disable()  # the disk is not to wait for it
    try:
        start_simulation(
            client_fn=Counting,
            num_clients=20,
            config=fl.server.ServerConfig(num_rounds=1),
            strategy=FedMedian(initial_parameters=ndarrays_to_parameters(initial()), fraction_evaluate=0.0),
            backend="inline",
        )
        assert open_files() - before < 5
    finally:
        gc.enable()
