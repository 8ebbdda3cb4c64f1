"""Killing: the run goes on or comes back in the same bits, and nothing stays behind. Real processes, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).parent / "programs" / "simulate.py"


class Simulation:
    """A script in a process of its own, in a folder of its own."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}.txt"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(options)],
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self):
        return self.output.read_text()

    def says(self, words, times=1, deadline=60.0):
        until = time.monotonic() + deadline
        while self.text.count(words) < times:
            assert self.process.poll() is None or self.text.count(words) >= times, self.text
            assert time.monotonic() < until, f"no {words!r} in {deadline} s:\n{self.text}"
            time.sleep(0.01)

    def ends(self, deadline=60.0):
        return self.process.wait(deadline)

    def history(self):
        return json.loads((self.folder / "history.json").read_text())


@pytest.fixture
def simulate(tmp_path):
    started = []

    def start(**options):
        started.append(Simulation(tmp_path, **options))
        return started[-1]

    yield start
    for simulation in started:
        if simulation.process.poll() is None:
            os.killpg(simulation.process.pid, signal.SIGKILL)
        simulation.process.wait()


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes, deadline=10.0):
    _, alive = psutil.wait_procs(processes, timeout=deadline)
    assert not alive, alive


def shared_memory():
    folder = Path("/dev/shm")
    return set(folder.iterdir()) if folder.exists() else set()


@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_ctrl_c_prints_the_history_so_far_and_leaves_nothing_behind(simulate, backend):
    before = shared_memory()
    simulation = simulate(backend=backend, rounds=1000, seconds=0.05)
    simulation.says("[ROUND 3/1000]")
    workers = descendants(simulation.process)
    assert len(workers) == (2 if backend == "processes" else 0)
    os.killpg(simulation.process.pid, signal.SIGINT)  # as a terminal does it: the workers get it, too
    assert simulation.ends() == 130
    assert "returned" not in simulation.text
    assert "Traceback" not in simulation.text
    rounds = re.findall(r"^\tround (\d+): ", simulation.text.partition("loss, centralized")[2], re.M)
    assert rounds[:3] == ["0", "1", "2"]
    assert len(rounds) < 1000
    all_gone(workers)
    assert shared_memory() <= before


def test_ctrl_c_while_workers_begin_shows_nothing_of_theirs(simulate, tmp_path, monkeypatch):
    pressed = tmp_path / "pressed"  # in the first moment of each worker's interpreter
    pressed.mkdir()
    lines = ["import os, signal, sys", f"if sys.argv[0] == '-c': open({str(pressed)!r} + f'/{{os.getpid()}}', 'w').close()"]
    press = "if sys.argv[0] == '-c': os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "sitecustomize.py").write_text("\n".join([*lines, press]))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep))
    simulation = simulate(backend="processes", rounds=2, seconds=0)
    assert simulation.ends() == 0
    assert len(list(pressed.iterdir())) == 2, simulation.text
    assert "Traceback" not in simulation.text
    assert "KeyboardInterrupt" not in simulation.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_even_in_the_middle_of_a_task(simulate, number):
    before = shared_memory()
    simulation = simulate(backend="processes", rounds=2, seconds=1000)
    simulation.says("fitting", times=2)
    workers = descendants(simulation.process)
    assert len(workers) == 2
    simulation.process.send_signal(number)
    simulation.ends()
    all_gone(workers)
    assert shared_memory() <= before


@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_a_killed_simulation_goes_on_at_its_last_round_and_ends_in_the_same_bits(simulate, tmp_path, backend):
    simulate(backend=backend, rounds=4, history="whole.json").ends()
    simulation = simulate(backend=backend, rounds=4, store="runs", die_in=3)
    assert simulation.ends() == -signal.SIGKILL
    again = simulate(backend=backend, rounds=4, store="runs", die_in=3)
    assert again.ends() == 0
    assert re.search(r"Resuming run .*; start afresh with .*fresh=True", again.text)
    assert "Resumed in round 3 of 4" in again.text
    assert again.history() == json.loads((tmp_path / "whole.json").read_text())


def test_of_two_simulations_that_differ_in_code_only_the_one_that_was_killed_goes_on(simulate, tmp_path):
    simulate(backend="inline", after=1, history="whole.json").ends()
    assert simulate(backend="inline", store="runs", after=1, die_in=2).ends() == -signal.SIGKILL
    again = simulate(backend="inline", store="runs", after=1, die_in=2)
    assert again.ends() == 0
    assert re.search(r"Umbel simulation.*Umbel simulation.*Resumed in round 2 of 3", again.text, re.DOTALL)
    assert again.history() == json.loads((tmp_path / "whole.json").read_text())


def test_sigterm_ends_a_script_with_one_line_and_the_run_can_go_on(simulate):
    simulation = simulate(backend="processes", rounds=1000, seconds=0.05, store="runs")
    simulation.says("[ROUND 3/1000]")
    simulation.process.terminate()
    assert simulation.ends() == 143
    assert "SIGTERM: the run is kept, and goes on when the same script is started again" in simulation.text
    assert "Traceback" not in simulation.text


def test_a_finished_simulation_begins_anew(simulate):
    assert simulate(backend="inline", store="runs").ends() == 0
    second = simulate(backend="inline", store="runs")
    assert second.ends() == 0
    assert "Resum" not in second.text


def test_a_worker_that_is_killed_is_named_and_replaced_and_no_bit_changes(simulate, tmp_path):
    simulate(backend="inline", history="whole.json").ends()
    simulation = simulate(backend="processes", seconds=0.5)
    simulation.says("fitting")
    victim = int(re.search(r"fitting \d+ in (\d+)", simulation.text)[1])
    os.kill(victim, signal.SIGKILL)
    assert simulation.ends() == 0
    assert re.search(rf"worker \d \(process {victim}\) was killed by SIGKILL .*; it is replaced", simulation.text)
    assert simulation.history() == json.loads((tmp_path / "whole.json").read_text())
