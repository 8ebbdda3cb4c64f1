"""Programs that start a Ray of their own: whichever way they end, nothing of it stays. Real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal

import psutil
import pytest
from test_processes_end import all_gone, descendants, simulate  # noqa: F401  # a fixture


def ray_processes(simulation):
    """Everything that the simulation's Ray consists of; some of it is in sessions of its own."""
    return [process for process in descendants(simulation.process) if process.is_running()]


def test_a_program_with_its_own_ray_gives_the_same_bits_and_prints_what_clients_print(simulate, own_ray, tmp_path):  # noqa: F811
    simulate(backend="inline", history="whole.json").ends()
    simulation = simulate(backend="ray", ray=own_ray)
    simulation.says("[ROUND 1/3]", deadline=120)
    processes = ray_processes(simulation)
    assert simulation.ends() == 0, simulation.text
    assert simulation.history() == json.loads((tmp_path / "whole.json").read_text())
    all_gone(processes)
    # the clients' lines come with Ray's mark before them; of Ray itself there is nothing
    lines = [line for line in simulation.text.splitlines() if not line.startswith("INFO    : ")]
    assert lines.pop() == "returned"
    assert lines
    assert all(re.search(r"\(Actor pid=\d+\).* fitting \d+ in \d+", line) for line in lines), simulation.text


def test_ctrl_c_prints_the_history_so_far_and_leaves_no_process(simulate, own_ray):  # noqa: F811
    simulation = simulate(backend="ray", ray=own_ray, rounds=1000, seconds=0.05)
    simulation.says("[ROUND 3/1000]", deadline=120)
    processes = ray_processes(simulation)
    assert sum("ray::Actor" in " ".join(process.cmdline()) for process in processes) == 2
    os.killpg(simulation.process.pid, signal.SIGINT)  # as a terminal does it: whoever is in the group gets it, too
    assert simulation.ends() == 130, simulation.text
    assert "Traceback" not in simulation.text
    assert re.findall(r"^\tround (\d+): ", simulation.text.partition("loss, centralized")[2], re.M)[:3] == ["0", "1", "2"]
    all_gone(processes)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_takes_its_ray_with_it(simulate, own_ray, number):  # noqa: F811
    simulation = simulate(backend="ray", ray=own_ray, rounds=2, seconds=1000)
    simulation.says("fitting", deadline=120)
    processes = ray_processes(simulation)
    # two helpers of Ray try to tell the dead about it for a minute or so before they end, too
    helpers = [process for process in processes if process.name().endswith("Agent")]
    simulation.process.send_signal(number)
    simulation.ends()
    try:
        all_gone([process for process in processes if process not in helpers], deadline=60)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_worker_that_is_killed_is_named_and_replaced_and_no_bit_changes(simulate, own_ray, tmp_path):  # noqa: F811
    simulate(backend="inline", history="whole.json").ends()
    simulation = simulate(backend="ray", ray=own_ray, seconds=0.5)
    simulation.says("fitting", deadline=120)
    victim = int(re.search(r"fitting \d+ in (\d+)", simulation.text)[1])
    psutil.Process(victim).kill()
    assert simulation.ends() == 0, simulation.text
    assert re.search(rf"Ray worker \d \(process {victim}\) died without a word.*; it is replaced", simulation.text)
    assert simulation.history() == json.loads((tmp_path / "whole.json").read_text())
