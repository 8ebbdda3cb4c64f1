"""Simulations on a cluster that is up already: the same bits, the same errors, and nothing left on it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import ray
from members import Member, client_fn, client_that_never_fails, fedavg, hangs, initial, wait_for_two
from test_faults import dying, nothing, raising
from test_same_bits import Looking

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.errors import SimulationError
from umbel.runtime.transports.simulated.crew import RemoteCrew
from umbel.runtime.transports.simulated.ray import RayYard
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.testing import check_crew
from umbel.transforms import Transform, chain, clip, int8, register, top_k


@pytest.fixture
def simulate(cluster):
    """Runs a simulation on the cluster, and sees that no worker stays there and its Ray is not ours any more."""
    address, head = cluster

    def run(client_fn, *, clients=4, rounds=2, cls=FedAvg, options=None, timeout=None, **others):
        settings = {"backend": "ray", "ray_init_args": {"address": address}, **others}
        return start_simulation(
            client_fn=client_fn,
            num_clients=clients,
            config=fl.server.ServerConfig(num_rounds=rounds, round_timeout=timeout),
            strategy=fedavg(cls, **(options or {"fraction_fit": 1.0})),
            **settings,
        )

    yield run
    assert not ray.is_initialized()
    psutil.wait_procs(workers(head), timeout=30)
    assert not workers(head)


def workers(head):
    return [process for process in head.children(recursive=True) if title(process).startswith("ray::Actor")]


def title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("cls", [FedAvg, Looking])
def test_inline_processes_and_ray_give_the_same_history(simulate, cls):
    """With sums by workers, and with single updates; the History has digests of every model, failures and states."""
    same = {"clients": 90, "rounds": 3, "seed": 5, "cls": cls, "options": {"fraction_fit": 0.8}}
    histories = [
        simulate(client_fn, backend="inline", ray_init_args=None, **same),
        simulate(client_fn, backend="processes", workers=2, ray_init_args=None, **same),
        simulate(client_fn, **same),
        simulate(client_fn, workers=1, **same),
    ]
    assert histories[1:] == histories[:1] * 3
    assert len({value for _, value in histories[2].metrics_centralized["digest"]}) == 4
    assert {note.client[-1] for note in histories[2].failures} == {"3"}


@register
def counted(start: float) -> Transform:
    """Says how often it was at this client, by the size of what it sends; and goes by a fact."""

    def encode(update, base, site):
        site.memory["times"] = int(site.memory.get("times", 0)) + 1
        factor = site.facts["factor"] / site.memory["times"]
        arrays = [np.asarray(a * a.dtype.type(factor)) if a.dtype.kind == "f" else a for a in update.parts["difference"]]
        return update._replace(parts={**update.parts, "difference": arrays})

    return Transform(
        "counted",
        {"start": start},
        encode=encode,
        advance=lambda facts, totals: {"factor": facts["factor"] / 2},
        facts={"factor": start},
    )


@pytest.mark.parametrize("cls", [FedAvg, Looking])
def test_transforms_their_facts_and_what_they_remember_are_the_same_on_ray(simulate, cls):
    same = {"clients": 20, "rounds": 3, "seed": 5, "cls": cls}
    histories = []
    for transform in (chain(counted(1.0), top_k(0.25)), chain(clip(0.5), int8(block=16))):
        options = {"fraction_fit": 0.8, "transform": transform}
        inline = simulate(client_fn, backend="inline", ray_init_args=None, options=options, **same)
        assert simulate(client_fn, options=options, **same) == inline
        histories.append(inline.metrics_centralized["digest"])
        assert len({value for _, value in histories[-1]}) == 4
    assert histories[0] != histories[1]


class Overtaking(queue.SimpleQueue):
    """Whatever comes soon after something else comes before it."""

    def get(self, block=True, timeout=None):
        first = super().get(block, timeout)
        try:
            second = super().get(timeout=0.5)
        except queue.Empty:
            return first
        self.put(first)
        return second


def test_a_short_answer_may_overtake_a_long_one_of_the_same_worker(simulate, monkeypatch):
    same = {"clients": 8, "rounds": 2, "workers": 1}
    inline = simulate(client_that_never_fails, **same | {"backend": "inline", "ray_init_args": None, "workers": None})
    monkeypatch.setattr(queue, "SimpleQueue", Overtaking)
    assert simulate(client_that_never_fails, **same) == inline


def test_simulated_durations_give_the_same_history(simulate):
    same = {"durations": lambda client, number: (7 * int(client) + number) % 5, "clients": 12}
    there = simulate(client_that_never_fails, **same)
    assert there == simulate(client_that_never_fails, backend="inline", ray_init_args=None, **same)


def test_without_initial_parameters_the_first_client_gives_them(simulate):
    strategy = {"initial_parameters": None}
    there = simulate(client_that_never_fails, options=strategy)
    assert there == simulate(client_that_never_fails, backend="inline", ray_init_args=None, options=strategy)


def test_a_simulation_on_ray_resumes_in_the_same_bits_after_an_error(simulate, tmp_path):
    whole = simulate(client_that_never_fails, rounds=4)

    def stumbles(number, arrays, _):
        if number == 3 and not (tmp_path / "stumbled").exists():
            (tmp_path / "stumbled").touch()
            raise OSError("the disk of the evaluation is gone")
        return fedavg().evaluate_fn(number, arrays, _)

    again = {"rounds": 4, "store": tmp_path / "runs", "options": {"fraction_fit": 1.0, "evaluate_fn": stumbles}}
    with pytest.raises(OSError, match="the disk of the evaluation"):
        simulate(client_that_never_fails, **again)
    assert simulate(client_that_never_fails, **again) == whole


@pytest.mark.parametrize("threads", [1, 2])
def test_a_matrix_product_uses_as_many_threads_as_were_asked_for(simulate, threads):
    def counting(context):
        from threadpoolctl import threadpool_info

        class Counting(Member):
            def fit(self, parameters, config):
                used = {pool["num_threads"] for pool in threadpool_info()} or {threads}
                return initial(), 1, {"used": max(used), "said": int(os.environ["OMP_NUM_THREADS"])}

        return Counting(context)

    history = simulate(counting, rounds=1, threads=threads)
    assert history.metrics_distributed_fit == {"used": [(1, threads)], "said": [(1, threads)]}


def test_a_round_uses_every_place_and_a_client_may_change_what_it_closes_over(simulate, tmp_path):
    secret = np.arange(200_000, dtype="float64")

    class Local(fl.client.NumPyClient):
        def fit(self, parameters, config):
            wait_for_two(tmp_path, str(os.getpid()))
            secret[0] += 1  # each worker's own
            return parameters, 1, {f"process {os.getpid()}": 1, "sum": float(secret[1:].sum())}

    history = simulate(lambda context: Local(), clients=20, options={"fraction_evaluate": 0.0}, rounds=1)
    assert history.metrics_distributed_fit["sum"] == [(1, float(np.arange(200_000).sum()))]
    assert len(history.metrics_distributed_fit) == 3  # two processors, two workers
    assert secret[0] == 0


def test_clients_share_a_gpu_as_their_resources_say(simulate, tmp_path):
    def looking(context):
        class Looking(Member):
            def fit(self, parameters, config):
                wait_for_two(tmp_path, str(os.getpid()))
                return parameters, 1, {f"GPU {os.environ['CUDA_VISIBLE_DEVICES']} in {os.getpid()}": 1}

        return Looking(context)

    history = simulate(looking, clients=20, rounds=1, client_resources={"num_cpus": 0.5, "num_gpus": 0.5})
    seen = history.metrics_distributed_fit
    assert len(seen) == 2
    assert all(name.startswith("GPU 0 in ") for name in seen)


def test_a_large_model_goes_out_and_comes_back(simulate):
    """Two versions and their sums, and updates of the other kind: above the size at which Ray uses shared memory."""
    large = [np.random.default_rng(0).normal(size=500_000), np.arange(400_000)]

    class Adding(fl.client.NumPyClient):
        def fit(self, parameters, config):
            parameters[0] += np.random.random()
            return parameters, 1, {}

    options = {"initial_parameters": ndarrays_to_parameters(large), "fraction_evaluate": 0.0}
    for cls in (FedAvg, Looking):
        same = {"options": options, "clients": 6, "cls": cls}
        there = simulate(lambda context: Adding(), **same)
        assert there == simulate(lambda context: Adding(), backend="inline", ray_init_args=None, **same)


def test_a_crew_of_ray_actors_is_one(cluster):
    @contextlib.contextmanager
    def on_ray(work):
        contents = SharedContents()
        init = {"address": cluster[0], "log_to_driver": False}
        yard = RayYard(work, contents, cpus=1, gpus=0, workers=2, useful=8, threads=1, init=init)
        crew = RemoteCrew(yard, contents, work.aggregator, ahead=2, beside=work.beside)
        try:
            crew.try_client("0")
            yield crew, contents
        finally:
            crew.close()

    check_crew(on_ray, dies=True)


# ---- faults

DEATHS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
}


@pytest.mark.parametrize("how", DEATHS.values(), ids=DEATHS.keys())
def test_a_client_that_kills_its_worker_fails_after_a_second_try_and_the_others_count(simulate, how):
    history = simulate(dying(how), rounds=1)
    (note,) = history.failures
    assert (note.client, note.reason) == ("2", "died")
    assert "died without a word: killed, out of memory, or crashed at client 2, and so did" in note.text
    assert len(history.metrics_distributed_fit["seen"]) == 1


def test_a_worker_that_dies_once_is_named_and_costs_nothing(simulate, tmp_path, caplog):
    caplog.set_level("WARNING")
    history = simulate(dying(lambda: os._exit(1), once=tmp_path))
    assert history == simulate(client_that_never_fails, backend="inline", ray_init_args=None)
    (line,) = [record.getMessage() for record in caplog.records if "replaced" in record.getMessage()]
    assert line.startswith("Ray worker ")
    assert "(process " in line


def test_a_death_in_a_chunk_of_many_fails_only_the_guilty(simulate):
    history = simulate(dying(lambda: os._exit(1)), clients=150, rounds=1)  # 3 tasks a chunk
    assert [(note.client, note.reason) for note in history.failures] == [("2", "died")]


def test_a_client_that_exits_politely_is_a_failed_task_with_its_place(simulate):
    history = simulate(dying(lambda: sys.exit(3)), rounds=1)
    ((client, reason, text),) = [(note.client, note.reason, note.text) for note in history.failures]
    assert (client, reason) == ("2", "raised")
    assert text.startswith("fit raised SystemExit: 3 (test_cluster.py:")


def test_a_hung_client_hits_the_round_timeout_and_the_run_goes_on(simulate):
    started = time.monotonic()
    history = simulate(hangs, timeout=10.0, clients=3)
    assert time.monotonic() - started < 100
    assert [(note.round, note.client, note.reason) for note in history.failures if note.client == "1"] == [
        (1, "1", "late"),
        (2, "1", "late"),
    ]


# ---- what cannot begin

BAD = {
    "returns None": ({"client_fn": nothing}, "client_fn returned a NoneType; return a NumPyClient or a Client, made"),
    "raises": ({"client_fn": raising}, "client_fn raised FileNotFoundError: no such data: /data/site-7 in a Ray worker"),
    "exits": ({"client_fn": lambda context: sys.exit("no data")}, "client_fn raised SystemExit: no data in a Ray worker"),
    "dies": ({"client_fn": lambda context: os._exit(1)}, "died without a word: killed, out of memory, or crashed when"),
    "too many processors": (
        {"client_resources": {"num_cpus": 3}},
        "num_cpus=3 and num_gpus=0, and no machine of the Ray cluster has that (2 CPUs and 1 GPUs); ask for less",
    ),
    "too many GPUs": ({"client_resources": {"num_gpus": 2}}, "num_gpus=2, and no machine of the Ray cluster has that"),
    "nobody there": ({"ray_init_args": {"address": "127.0.0.1:1"}}, "nothing answers at 127.0.0.1:1 (ray_init_args={"),
    "unknown argument": ({"ray_init_args": {"speed": 9}}, "ray_init_args={'speed': 9}"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_what_cannot_work_is_one_clear_error_before_the_first_round(simulate, changes, words):
    options = {"client_fn": client_that_never_fails, **changes}
    with pytest.raises(SimulationError) as raised:
        simulate(**options)
    assert words in str(raised.value)


def test_what_cannot_be_pickled_is_named_with_the_remedy(simulate):
    lock = threading.Lock()
    with pytest.raises(SimulationError, match=r"cannot be sent to Ray workers: .*lock.*use backend=\"inline\""):
        simulate(lambda context: (lock, Member(context))[1])


def test_a_module_that_workers_lack_is_named_with_the_remedy(simulate):
    class Elsewhere:
        def __reduce__(self):
            return __import__, ("only_on_the_users_machine",)

    elsewhere = Elsewhere()
    with pytest.raises(SimulationError, match=r"Ray worker cannot import .*only_on_the_users_machine.*'working_dir': '\.'"):
        simulate(lambda context: (elsewhere, Member(context))[1])


# ---- whose Ray it is


def test_a_ray_that_is_up_is_used_and_left_up(simulate, cluster):
    ray.init(address=cluster[0], log_to_driver=False)
    try:
        there = simulate(client_that_never_fails, ray_init_args=None)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert there == simulate(client_that_never_fails, backend="inline", ray_init_args=None)


def test_a_program_keeps_its_own_handler_of_sigterm(simulate):
    before = signal.getsignal(signal.SIGTERM)
    simulate(client_that_never_fails, rounds=1)
    assert signal.getsignal(signal.SIGTERM) == before
