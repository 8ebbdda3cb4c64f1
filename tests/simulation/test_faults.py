"""Clients that raise, hang or take their process with them: one failed task each, and the run goes on."""

from __future__ import annotations

import ctypes
import enum
import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from members import Member, client_that_never_fails, digest, fedavg, hangs

import umbel as fl
from umbel.common import GetPropertiesIns
from umbel.door import Door
from umbel.errors import SimulationError
from umbel.rounds.messages import Kind
from umbel.runtime.transports.simulated.crew import RemoteCrew
from umbel.runtime.transports.simulated.pieces import Asked, Piece, Work
from umbel.runtime.transports.simulated.processes import ProcessYard
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation

pytestmark = pytest.mark.system


def simulate(client_fn, *, backend="processes", clients=4, rounds=2, timeout=None, cls=FedAvg, workers=2):
    return start_simulation(
        client_fn=client_fn,
        num_clients=clients,
        config=fl.server.ServerConfig(num_rounds=rounds, round_timeout=timeout),
        strategy=fedavg(cls, fraction_fit=1.0),
        backend=backend,
        workers=workers,
    )


def dying(how, *, once=None):
    """Clients of which number 2 dies in `fit`; with `once`, a folder, only the first time."""

    class Dying(Member):
        def fit(self, parameters, config):
            if self.name == "2" and not (once and (once / "dead").exists()):
                if once:
                    (once / "dead").touch()
                how()
            return super().fit(parameters, config)

    return lambda context: Dying(context, fails=False)


DEATHS = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL (out of memory?)"),
    "exit": (lambda: os._exit(7), "ended with exit status 7"),
    "segfault": (lambda: ctypes.string_at(0), "was killed by SIGSEGV"),
}


@pytest.mark.parametrize(("how", "words"), DEATHS.values(), ids=DEATHS.keys())
def test_a_client_that_kills_its_worker_fails_after_a_second_try_and_the_others_count(how, words):
    history = simulate(dying(how))
    assert [(note.round, note.client, note.reason) for note in history.failures] == [(1, "2", "died"), (2, "2", "died")]
    assert all(words in note.text and "at client 2" in note.text for note in history.failures)
    assert [number for number, _ in history.metrics_distributed_fit["seen"]] == [1, 2]


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    history = simulate(dying(lambda: os._exit(1), once=tmp_path))
    assert history == simulate(client_that_never_fails, backend="inline")


def test_a_death_in_a_chunk_of_many_fails_only_the_guilty():
    history = simulate(dying(lambda: os._exit(1)), clients=150, rounds=1)  # 3 tasks a chunk
    assert [note.client for note in history.failures] == ["2"]


class Looking(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        return parameters, {**metrics, "results": len(results), "failures": [str(failure) for failure in failures]}


def test_a_strategy_sees_results_and_failures():
    history = simulate(dying(lambda: os._exit(1)), rounds=1, cls=Looking)
    assert history.metrics_distributed_fit["results"] == [(1, 3)]
    ((_, (said,)),) = history.metrics_distributed_fit["failures"]
    assert said.startswith("client 2: worker")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_a_hung_client_hits_the_round_timeout_and_the_run_goes_on(backend):
    started = time.monotonic()
    history = simulate(hangs, backend=backend, timeout=4.0, clients=3, workers=3)
    assert time.monotonic() - started < 30
    assert [(note.round, note.client, note.reason) for note in history.failures if note.client == "1"] == [
        (1, "1", "late"),
        (2, "1", "late"),
    ]
    if backend == "processes":
        assert all(note.client == "1" for note in history.failures)


def test_a_client_that_hangs_and_catches_everything_is_late_all_the_same():
    def stubborn(context):
        class Stubborn(Member):
            def fit(self, parameters, config):
                for _ in range(3 if self.name == "0" else 0):
                    try:
                        threading.Event().wait(1)
                    except BaseException:
                        continue
                return super().fit(parameters, config)

        return Stubborn(context, fails=False)

    history = simulate(stubborn, backend="inline", timeout=1.5, clients=2, rounds=1)
    assert (1, "0", "late") in [(note.round, note.client, note.reason) for note in history.failures]


def with_helper(path, *, then):
    """Clients that leave a process of their own behind, as loaders of data do, and write down its number."""

    def client_fn(context):
        class Helped(Member):
            def fit(self, parameters, config):
                helper = multiprocessing.get_context("fork").Process(target=threading.Event().wait, args=(100,), daemon=True)
                helper.start()
                path.write_text(str(helper.pid))
                then()
                return super().fit(parameters, config)

        return Helped(context, fails=False)

    return client_fn


def test_what_clients_have_started_ends_with_their_worker(tmp_path):
    simulate(with_helper(tmp_path / "helper", then=lambda: None), clients=2, rounds=1, workers=1)
    assert not psutil.pid_exists(int((tmp_path / "helper").read_text()))


def test_a_death_is_seen_though_a_child_of_the_worker_lives_on(tmp_path):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    history = simulate(with_helper(tmp_path / "helper", then=die), clients=2, rounds=1, workers=1)
    psutil.Process(int((tmp_path / "helper").read_text())).kill()
    assert [note.reason for note in history.failures] == ["died", "died"]


class Mode(enum.StrEnum):
    FAST = "fast"


@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_an_enum_travels_as_the_text_that_it_is(backend):
    def modal(context):
        class Modal(Member):
            def fit(self, parameters, config):
                assert type(config["mode"]) is str
                return parameters, 1, {"mode": Mode.FAST}

        return Modal(context)

    history = start_simulation(
        client_fn=modal,
        num_clients=2,
        config=fl.server.ServerConfig(num_rounds=1),
        strategy=fedavg(
            on_fit_config_fn=lambda _: {"mode": Mode.FAST}, fit_metrics_aggregation_fn=lambda found: found[0][1]
        ),
        backend=backend,
        workers=2,
    )
    assert history.metrics_distributed_fit == {"mode": [(1, "fast")]}
    assert type(history.metrics_distributed_fit["mode"][0][1]) is str


def test_nothing_of_a_simulation_stays_open():
    def opened():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    simulate(client_that_never_fails, backend="auto")
    before = opened()
    for _ in range(3):
        simulate(client_that_never_fails, backend="auto")
    assert opened() <= before


def test_every_client_may_fail_and_the_rounds_count():
    def broken(context):
        class Broken(Member):
            def fit(self, parameters, config):
                raise MemoryError("too large")

        return Broken(context)

    history = simulate(broken)
    assert len(history.failures) == 8
    assert len(history.losses_centralized) == 3


def test_an_update_that_the_door_refuses_fails_with_the_reason():
    def poisonous(context):
        class Poisonous(Member):
            def fit(self, parameters, config):
                arrays, count, metrics = super().fit(parameters, config)
                if self.name == "0":
                    arrays[0][0, 0] = np.nan
                if self.name == "1":
                    arrays.pop()
                return arrays, count, metrics

        return Poisonous(context, fails=False)

    histories = [simulate(poisonous, backend=backend) for backend in ("inline", "processes")]
    assert histories[0] == histories[1]
    notes = histories[0].failures
    assert [note.reason for note in notes] == ["rejected"] * 4
    assert "contains nan" in notes[0].text
    assert "returned 3 arrays, the model has 4" in notes[1].text


@pytest.mark.parametrize("backend", ["inline", "processes"])
@pytest.mark.parametrize(
    ("key", "value", "words"), [("lock", threading.Lock, "['lock'] is a lock"), (3, int, "the key 3 is a int, not text")]
)
def test_a_state_that_cannot_be_kept_is_named(backend, key, value, words):
    def hoarding(context):
        class Hoarding(Member):
            def fit(self, parameters, config):
                self.context.state[key] = value()
                return parameters, 1, {}

        return Hoarding(context)

    history = simulate(hoarding, backend=backend, rounds=2)
    assert [note.round for note in history.failures] == [1] * 4 + [2] * 4
    assert f"context.state holds what cannot be kept: {words}" in history.failures[0].text


def test_what_a_failed_task_did_to_its_state_is_forgotten():
    def forgetful(context):
        class Forgetful(Member):
            def fit(self, parameters, config):
                self.context.state["tries"] = self.context.state.get("tries", 0) + 1
                if self.name == "1":
                    raise RuntimeError(f"tries: {self.context.state['tries']}")
                return parameters, 1, {"tries": self.context.state["tries"]}

        return Forgetful(context)

    history = simulate(forgetful, backend="inline", rounds=3)
    assert {note.text.partition(" (")[0] for note in history.failures} == {"fit raised RuntimeError: tries: 1"}
    assert history.metrics_distributed_fit["tries"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_client_that_was_made_before_has_the_context_of_each_task():
    made = {}

    class Counting(Member):
        def fit(self, parameters, config):
            self.context.state["tries"] = self.context.state.get("tries", 0) + 1
            return parameters, 1, {"tries": self.context.state["tries"], "round": self.context.round}

    def client_fn(cid: str):
        class Classic(fl.client.NumPyClient):
            fit = Counting.fit

        return made.setdefault(cid, Classic())

    history = simulate(client_fn, backend="inline", rounds=3)
    counted = [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert history.metrics_distributed_fit == {"tries": counted, "round": counted}


def test_what_a_client_keeps_while_it_is_asked_stays():
    class Asked(Member):
        def get_properties(self, config):
            self.context.state["asked"] = self.context.state.get("asked", 0) + 1
            return {"asked": self.context.state["asked"]}

    asked = []

    class Asking(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = super().configure_fit(server_round, parameters, client_manager)
            asked.append({client.get_properties(GetPropertiesIns({}), None).properties["asked"] for client, _ in chosen})
            return chosen

    simulate(Asked, cls=Asking, backend="inline", rounds=3)
    assert asked == [{1}, {2}, {3}]


# ---- what cannot begin


def nothing(context):
    return None


def raising(context):
    raise FileNotFoundError("no such data: /data/site-7")


BAD = {
    "returns None": ({"client_fn": nothing}, "client_fn returned a NoneType; return a NumPyClient or a Client, made"),
    "returns a class": ({"client_fn": lambda c: Member}, "client_fn returned the class Member"),
    "raises": ({"client_fn": raising}, "client_fn raised FileNotFoundError"),
    "exits": ({"client_fn": lambda context: sys.exit("no data")}, "client_fn raised SystemExit"),
    "no function": ({"client_fn": 7}, "client_fn=7; it is a function (context) → a NumPyClient or a Client"),
    "a client": ({"client_fn": fl.client.NumPyClient()}, "write client_fn=lambda context: NumPyClient()"),
    "no argument": ({"client_fn": lambda: None}, "this one takes ()"),
    "too few clients": ({"num_clients": 1}, "the strategy needs 2 clients (min_available_clients=2), the simulation has 1"),
    "no clients": ({"num_clients": 0}, "num_clients=0; it is a whole number of clients, 1 or more"),
    "no number": ({"num_clients": None}, "either num_clients= or clients_ids="),
    "both": ({"clients_ids": ["a", "b"]}, "either num_clients= or clients_ids="),
    "twins": ({"num_clients": None, "clients_ids": ["a", "a"]}, "all of them Unicode text and different"),
    "one text": ({"num_clients": None, "clients_ids": "abc"}, "clients_ids='abc'; it is a list of names"),
    "no Unicode": ({"num_clients": None, "clients_ids": ["\ud800", "b"]}, "all of them Unicode text and different"),
    "no seed": ({"seed": None}, "seed=None; it is a whole number"),
    "half a seed": ({"seed": 1.5}, "seed=1.5; it is a whole number"),
    "a dict for a config": ({"config": {"num_rounds": 2}}, "write config=ServerConfig(num_rounds=2)"),
    "a class for a strategy": ({"strategy": FedAvg}, "this is the class; write strategy=FedAvg()"),
    "too many processors": ({"client_resources": {"num_cpus": 10_000}}, "num_cpus=10000, this machine has"),
    "no GPU": ({"client_resources": {"num_gpus": 1}}, "num_gpus=1, this machine shows 0"),
    "unknown resource": ({"client_resources": {"num_tpus": 1}}, "it knows num_cpus and num_gpus"),
    "a negative need": ({"client_resources": {"num_cpus": -1}}, "client_resources['num_cpus'] = -1"),
    "unknown backend": ({"backend": "spark"}, "backend='spark'; it is one of 'auto', 'inline', 'processes', 'ray'"),
    "no workers": ({"workers": 0}, "workers=0; it is a whole number of workers, 1 or more"),
    "no threads": ({"threads": 0}, "threads=0; it is a whole number of threads, 1 or more"),
}


@pytest.mark.parametrize("backend", ["inline", "processes"])
@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_what_cannot_work_is_one_clear_error_before_the_first_round(changes, words, backend, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if backend == "inline" and "client_resources" in changes and changes["client_resources"].keys() & {"num_cpus"}:
        backend = "processes" if changes["client_resources"]["num_cpus"] > 0 else backend
    options = {"client_fn": client_that_never_fails, "num_clients": 3, "backend": backend, "strategy": fedavg(), **changes}
    with pytest.raises(SimulationError) as raised:
        start_simulation(**options)
    assert words in str(raised.value)


def test_numbers_and_names_may_come_from_numpy():
    options = {"strategy": fedavg(), "backend": "inline", "config": fl.server.ServerConfig(num_rounds=1)}
    options["client_fn"] = client_that_never_fails
    one = start_simulation(num_clients=np.int64(2), seed=np.int64(2), threads=np.int64(1), **options)
    assert one == start_simulation(clients_ids=np.array(["0", "1"]), seed=2, **options)


def test_a_partial_of_a_function_that_cannot_be_imported_is_sent_to_workers():
    def client_fn(fails, context):
        return Member(context, fails=fails)

    assert simulate(functools.partial(client_fn, False)) == simulate(client_that_never_fails)


@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_the_place_of_a_failure_is_known_where_the_code_travels_by_value(tmp_path, backend):
    """That of a script does: `__main__` of a worker is another."""
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, backend], capture_output=True, text=True, timeout=120, check=True)
    assert "client 1 failed (raised): fit raised SystemExit: 2 (my_script.py:9)" in done.stderr
    assert "sys.exit(2)  # nothing here" in done.stdout  # the traceback shows the line itself


SCRIPT = """
import sys, numpy as np, umbel as fl
class C(fl.client.NumPyClient):
    def __init__(self, name): self.name = name
    def get_parameters(self, config): return [np.zeros(1)]
    def evaluate(self, parameters, config): return 0.0, 1, {}
    def fit(self, parameters, config):
        if self.name == "1":
            sys.exit(2)  # nothing here
        return parameters, 1, {}

if __name__ == "__main__":
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: C(cid), num_clients=2, config=fl.server.ServerConfig(num_rounds=1), backend=sys.argv[1]
    )
    print(history.failures[0].detail)
"""


def test_what_cannot_be_pickled_is_named_with_the_remedy():
    lock = threading.Lock()
    with pytest.raises(SimulationError, match=r"cannot be sent to worker processes: .*lock.*use backend=\"inline\""):
        simulate(lambda context: (lock, Member(context))[1])


def test_auto_stays_inline_with_what_cannot_be_pickled(caplog, monkeypatch):
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.START_COST", 0.0)
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.WORTH", 0.0)
    lock = threading.Lock()
    caplog.set_level("INFO")
    history = simulate(lambda context: (lock, Member(context, fails=False))[1], backend="auto", rounds=3)
    assert history == simulate(client_that_never_fails, backend="inline", rounds=3)
    assert "The clients stay in one process: client_fn cannot be sent" in caplog.text


def test_auto_goes_on_here_until_its_processes_are_ready_and_no_bit_changes(caplog, monkeypatch):
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.START_COST", -1e6)  # so that they pay at once
    monkeypatch.setattr("umbel.runtime.transports.simulated.auto.WORTH", 0.0)
    caplog.set_level("INFO")
    moved = []

    def evaluate(number, arrays, _):
        if "from here on 2 worker processes share them" in caplog.text:
            moved.append(number)
        return 0.0, {"digest": digest(arrays), "done": float(len(moved) > 2)}

    def run(backend, rounds):
        until = fl.server.Until(metric="done", at_least=1.0)
        return start_simulation(
            client_fn=client_that_never_fails,
            num_clients=4,
            config=fl.server.ServerConfig(num_rounds=rounds),
            strategy=fedavg(evaluate_fn=evaluate, until=until),
            backend=backend,
            workers=2,
        ).metrics_centralized["digest"]

    digests = run("auto", 20_000)
    assert len(moved) == 3
    assert len(digests) > 5  # some of them before
    moved.clear()
    caplog.clear()
    assert digests == run("inline", digests[-1][0])


def test_a_client_without_parameters_to_give_ends_the_simulation_with_the_remedy():
    def empty(context):
        return fl.client.NumPyClient()

    with pytest.raises(SimulationError, match=r"client 0 could not give initial parameters: .*initial_parameters="):
        start_simulation(client_fn=empty, num_clients=3, backend="inline")


def test_a_strategy_that_asks_for_more_clients_than_there_are_is_told_so():
    class Greedy(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            client_manager.wait_for(50)

    with pytest.raises(fl.errors.StrategyError, match="asks for 50 clients, there are 4"):
        simulate(client_that_never_fails, cls=Greedy, backend="inline")


def test_a_crew_that_is_at_nothing_but_dropped_pieces_takes_on_others(tmp_path):
    """It says nothing when they are done: who waited for that, before giving it more, would wait for ever."""

    class Held(fl.client.NumPyClient):
        def evaluate(self, parameters, config):
            until = time.monotonic() + 60
            while config["held"] and not (tmp_path / "open").exists() and time.monotonic() < until:
                threading.Event().wait(0.01)
            return 0.0, 1, {}

    def piece(number, held):
        return Piece(number, Kind.EVALUATE, (Asked(0, "0", 0, 1, {"held": held}),), {}, Door(Kind.EVALUATE, None, 1, 1))

    work, contents = Work(lambda context: Held(), 0, 1, None), SharedContents()
    crew = RemoteCrew(ProcessYard(work, contents, slots=1, threads=1), contents, None, ahead=1)
    try:
        crew.try_client("0")
        crew.start(piece(1, held=True))
        assert not crew.free()
        crew.drop(1)
        assert crew.free()
        crew.start(piece(2, held=False))
        (tmp_path / "open").touch()
        assert crew.wait(60).number == 2
    finally:
        crew.close()
