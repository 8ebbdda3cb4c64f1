"""One seed, one History, bit for bit: inline, in any number of processes, however updates travel."""

from __future__ import annotations

import random
import traceback
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from members import Member, client_fn, fedavg, initial, wait_for_two

import umbel as fl
from umbel.aggregators import mean
from umbel.aggregators.accumulators import PLAIN
from umbel.common import ndarrays_to_parameters
from umbel.rng import key
from umbel.runtime.seeding import keep_generators, seed_generators
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.transforms import chain, clip, top_k

pytestmark = pytest.mark.system

BACKENDS = {
    "1 process": {"backend": "processes", "workers": 1},
    "2 processes": {"backend": "processes", "workers": 2},
    "8 processes": {"backend": "processes", "workers": 8},
    "auto": {"backend": "auto"},
}


class Looking(FedAvg):
    """Reads every update, so that each has to travel by itself."""

    def aggregate_fit(self, server_round, results, failures):
        norms = [float(np.abs(res.parameters.arrays()[0]).sum()) for _, res in results]
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        return parameters, {**metrics, "norms": norms, "failures": len(failures)}


def simulate(cls=FedAvg, *, clients=90, rounds=3, seed=5, **options):
    settings = {"backend": "inline", "seed": seed, **options}
    config = fl.server.ServerConfig(num_rounds=rounds)
    return start_simulation(client_fn=client_fn, num_clients=clients, config=config, strategy=fedavg(cls), **settings)


@pytest.fixture(scope="module")
def inline():
    return {cls: simulate(cls) for cls in (FedAvg, Looking)}


@pytest.mark.parametrize("cls", [FedAvg, Looking])
@pytest.mark.parametrize(
    "backend",
    [pytest.param(how, id=name, marks=pytest.mark.slow if "8" in name else ()) for name, how in BACKENDS.items()],
)
def test_every_backend_gives_the_same_history(inline, backend, cls):
    there = simulate(cls, **backend)
    assert there == inline[cls]
    assert len({value for _, value in there.metrics_centralized["digest"]}) == 4


def test_a_sum_by_workers_and_single_updates_give_the_same_model(inline):
    assert inline[FedAvg].metrics_centralized == inline[Looking].metrics_centralized


class Unwritten(FedAvg):
    """Adds up what cannot be written as a content."""

    def algorithm(self):
        return replace(super().algorithm(), aggregator=mean()._replace(wire=PLAIN))


def test_updates_travel_by_themselves_where_their_sum_cannot(inline):
    assert not Unwritten().algorithm().aggregator.travels
    assert simulate(Unwritten, backend="processes", workers=2) == inline[FedAvg]
    assert simulate(Unwritten) == inline[FedAvg]


@pytest.mark.parametrize("cls", [FedAvg, Looking])
def test_transforms_are_the_same_in_processes(cls):
    transform = chain(clip(0.5), top_k(0.25))
    here, there = (
        simulate(partial(cls, transform=transform), clients=20, **backend)
        for backend in ({}, {"backend": "processes", "workers": 2})
    )
    assert there == here
    assert len({value for _, value in here.metrics_centralized["digest"]}) == 4


def test_the_history_shows_failures_and_states(inline):
    history = inline[FedAvg]
    assert {note.client[-1] for note in history.failures} == {"3"}
    assert all("ValueError: no data at" in note.text and "members.py" in note.detail for note in history.failures)
    assert [value > 0 for _, value in history.metrics_distributed_fit["seen"]] == [False, True, True]


def test_another_seed_is_another_run(inline):
    assert simulate(seed=6).metrics_centralized != inline[FedAvg].metrics_centralized


def test_nothing_of_the_callers_generators_is_used_or_changed():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    first = simulate(clients=4, rounds=1)
    assert (random.random(), np.random.random()) == expected
    assert simulate(clients=4, rounds=1) == first


def test_torch_draws_as_after_manual_seed_and_no_stack_is_noted(monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.accelerator.current_accelerator() is None:  # where there may be another device, torch has to seed it
        monkeypatch.setattr(traceback, "format_stack", lambda: pytest.fail("0.4 to 4 ms"))
    with keep_generators():
        seed_generators(7, "client", "a", 3)
        drawn = torch.rand(5)
        monkeypatch.undo()
        torch.manual_seed(key(7, "client", "a", 3) & (2**63 - 1))
        assert torch.equal(drawn, torch.rand(5))


def test_clients_by_name_or_by_number_are_the_same(inline):
    names = [str(i) for i in reversed(range(90))]
    config = fl.server.ServerConfig(num_rounds=3)
    named = start_simulation(
        client_fn=client_fn, clients_ids=names, config=config, strategy=fedavg(), backend="inline", seed=5
    )
    assert named == inline[FedAvg]


def test_the_classic_client_fn_of_a_cid_is_given_the_name():
    seen = []

    class Nobody(fl.client.NumPyClient):
        def __init__(self, cid):
            seen.append(cid)

        def fit(self, parameters, config):
            return parameters, 1, {}

    def by_cid(cid: str):
        return Nobody(cid)

    strategy = FedAvg(initial_parameters=ndarrays_to_parameters(initial()), fraction_evaluate=0.0)
    start_simulation(client_fn=by_cid, num_clients=3, strategy=strategy, backend="inline")
    assert seen[1:] == ["0", "1", "2"]  # and one for a trial


def test_without_initial_parameters_the_first_client_gives_them():
    histories = []
    for backend in ("inline", "processes"):
        strategy = fedavg(initial_parameters=None)
        histories.append(start_simulation(client_fn=client_fn, num_clients=5, strategy=strategy, backend=backend))
    assert histories[0] == histories[1]
    assert histories[0].metrics_centralized["digest"] == simulate(clients=5, rounds=1, seed=0).metrics_centralized["digest"]


def test_a_matrix_product_uses_one_thread_everywhere():
    def threads(context):
        from threadpoolctl import threadpool_info

        class Counting(Member):
            def fit(self, parameters, config):
                used = max((pool["num_threads"] for pool in threadpool_info()), default=1)
                return initial(), 1, {"threads": used}

        return Counting(context)

    for backend in ("inline", "processes"):
        for wanted in (1, 2):
            history = start_simulation(
                client_fn=threads, num_clients=2, strategy=fedavg(), backend=backend, workers=2, threads=wanted
            )
            assert history.metrics_distributed_fit["threads"] == [(1, wanted)]


def test_functions_of_a_cell_travel_by_value():
    secret = np.arange(200_000, dtype="float64")  # large: it is mapped, not copied

    class Local(fl.client.NumPyClient):
        def fit(self, parameters, config):
            secret[0] += 1  # each worker's own page
            return parameters, 1, {"sum": float(secret[1:].sum())}

    strategy = FedAvg(initial_parameters=ndarrays_to_parameters(initial()), fraction_evaluate=0.0)
    history = start_simulation(
        client_fn=lambda context: Local(), num_clients=4, strategy=strategy, backend="processes", workers=2
    )
    assert history.metrics_distributed_fit == {"sum": [(1, float(np.arange(200_000).sum()))]}
    assert secret[0] == 0


def test_a_worker_sees_the_gpus_of_its_slot(monkeypatch, tmp_path):
    import os

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    class Looking(Member):
        def fit(self, parameters, config):
            seen = os.environ["CUDA_VISIBLE_DEVICES"]
            wait_for_two(tmp_path, seen)  # whoever is up first leaves work to the others
            return parameters, 1, {seen: 1, "at once": 4}

    history = start_simulation(
        client_fn=lambda context: Looking(context),
        num_clients=40,
        strategy=fedavg(fraction_fit=1.0),
        client_resources={"num_cpus": 0.5, "num_gpus": 0.5},
    )
    assert set(history.metrics_distributed_fit) == {"3", "5", "at once"}
