"""Recorded runs come out as they were recorded, bit for bit, wherever they run and whenever they are killed.

`record.py` says what is recorded, and how to do so anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from case import NETWORK, PROCESSES, tensor_text
from cases import CASES
from federations import Federation
from record import differences, recorded, simulate

from umbel.server import strategy

HERE = Path(__file__).parent
RECORDED = recorded()
DYING = [name for name, case in CASES.items() if case.dies]
IN_PROCESSES = [name for name, case in CASES.items() if PROCESSES in case.ways]
QUICK_IN_PROCESSES = [
    "a client raises, over the network",
    "FedAdam mixed",
    "FedBuff gives up what is old",
    "clients draw",
    "a transform with facts",
]
KILLED = ["top_k", "FedAvgM mixed", "FedBuff with clients that raise", "FedXgbBagging bytes", "clients draw"]
QUICK_ON_THE_NETWORK = ["FedAdam over the network", "a transform with facts"]
ON_THE_NETWORK = [name for name, case in CASES.items() if NETWORK in case.ways]


class Died(BaseException):
    """The end of a process, as far as a run inline can meet it."""


def check(name, now):
    told = differences(RECORDED[name], json.loads(json.dumps(now)))
    again = "If this is meant, say in CHANGELOG.md what changes and why, and record it anew: python tests/replayed/record.py"
    assert not told, "\n  ".join([f"the run {name!r} is not what it was:", *told, again])


def program(name, *arguments, folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "program.py"), name, *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


# ---- inline


@pytest.mark.parametrize("name", CASES)
def test_a_run_inline_is_as_recorded(name, tmp_path):
    check(name, simulate(CASES[name], tmp_path))


@pytest.mark.parametrize("name", DYING)
def test_a_run_that_goes_on_in_the_middle_is_as_recorded(name, tmp_path):
    case, died = CASES[name], []

    def die(number):
        if number == case.dies and not died:
            died.append(number)
            raise Died

    with pytest.raises(Died):
        simulate(case, tmp_path, dying=die)
    check(name, simulate(case, tmp_path, dying=die))


# ---- in processes


@pytest.mark.system
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK_IN_PROCESSES else pytest.mark.slow) for name in IN_PROCESSES]
)
def test_a_run_in_processes_is_as_recorded(name, tmp_path):
    check(name, simulate(CASES[name], tmp_path, backend="processes"))


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_run_in_processes_that_is_killed_is_as_recorded(name, tmp_path):
    code, words = program(name, "simulate", "processes", folder=tmp_path)
    assert code == -9, words
    code, words = program(name, "simulate", "processes", folder=tmp_path)
    assert code == 0, words
    check(name, json.loads((tmp_path / "record.json").read_text()))


# ---- over the network


@pytest.mark.system
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK_ON_THE_NETWORK else pytest.mark.slow) for name in ON_THE_NETWORK],
)
def test_a_run_over_the_network_is_as_recorded(name, tmp_path):
    case = CASES[name]
    federation = Federation(tmp_path / "only")
    port = str(federation.port)
    try:
        server = federation.program("server", HERE / "program.py", name, "serve", port)
        for client in range(case.clients):
            federation.program(str(client), HERE / "program.py", name, "take-part", port, str(client))
        if case.dies:
            assert server.ends(90) == -9, server.text
            federation.programs.remove(server)
            federation.program("server", HERE / "program.py", name, "serve", port)
        federation.all_end(90)
        check(name, json.loads((federation.folder / "record.json").read_text()))
    finally:
        federation.end()


# ---- the record itself


def test_every_strategy_is_recorded():
    made = {name for case in CASES.values() for name in _classes(case.made())}
    # LightGBM's are XGBoost's with another format of boosters: tests/frameworks/test_boosters.py has them.
    assert set(strategy.__all__) - {"FedLgbBagging", "FedLgbCyclic"} <= made
    assert set(RECORDED) == set(CASES)


def _classes(made):
    return {cls.__name__ for each in (made, *vars(made).values()) for cls in type(each).__mro__}


def test_a_difference_is_shown_where_it_begins():
    before = {"model": {"tensor 0": {"0": "a", "1": "b", "2": "c"}}, "history": {"failures": [], "losses": [[1, 0.5]]}}
    now = {"model": {"tensor 0": {"0": "a", "1": "x", "2": "y"}}, "history": {"failures": [], "losses": [[1, 0.25]]}}
    assert differences(before, before) == []
    assert differences(before, now) == [
        'model / tensor 0 / 1: recorded "b", now "x"',
        'model / tensor 0 / 2: recorded "c", now "y"',
        "history / losses / round 1: recorded 0.5, now 0.25",
    ]


def test_one_bit_of_a_tensor_shows():
    array = np.zeros(9, np.float64)
    array[3] = 2.0**-1074
    assert tensor_text(array) != tensor_text(np.zeros(9, np.float64))
    assert tensor_text(-np.zeros(2)) != tensor_text(np.zeros(2))
