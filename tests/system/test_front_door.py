"""The classic front door over a real network: strategies of one's own, threads, many clients."""

from __future__ import annotations

import re

import psutil
import pytest
from federations import PROGRAMS, free_port, wait_for

from umbel.params import Params

pytestmark = pytest.mark.system


def test_a_strategy_may_ask_its_clients_for_their_properties(federation, reference):
    server = federation.server(strategy="asks")
    federation.clients("a", "b")

    assert server.ends() == 0
    federation.all_end()
    told = re.findall(r"round (\d): (\w) has (\d+) examples", server.text)
    assert [(number, name) for number, name, _ in told] == [(n, c) for n in "123" for c in "ab"]
    assert federation.model() == reference()


def test_a_strategy_may_combine_by_itself(federation):
    server = federation.server(strategy="own", rounds=2)
    federation.clients("b", "a")

    assert server.ends() == 0
    federation.all_end()
    assert server.text.count("OwnMean has an aggregate_fit of its own: updates that it reads are held in memory") == 1
    assert re.findall(r"round \d: \[.*\]", server.text) == ["round 1: ['a', 'b']", "round 2: ['a', 'b']"]
    assert federation.history()["metrics_distributed_fit"] == {"replies": [[1, 2], [2, 2]]}
    assert [array.shape for array in Params.from_bytes(federation.model()).arrays()] == [(1000,), (4, 3), (5,), ()]


def test_a_strategy_may_save_the_model_of_each_round(federation, reference):
    import numpy as np

    server = federation.server(strategy="keeps", rounds=2)
    federation.clients("a", "b")

    assert server.ends() == 0
    federation.all_end()
    assert federation.model() == reference(rounds=2)
    for number in (1, 2):
        with np.load(federation.folder / f"round-{number}.npz") as saved:
            want = Params.from_bytes(reference(rounds=number)).arrays()
            assert all(np.array_equal(saved[name], array) for name, array in zip(saved.files, want, strict=True))


def test_two_servers_and_their_clients_as_threads_of_one_process(federation):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    program = federation.program("threads", PROGRAMS / "threads.py", *addresses, str(federation.gates))

    assert program.ends(30) == 0
    assert program.text.count("rounds [1, 2]\n") == 2
    assert "left []\n" in program.text
    assert "main again []\n" in program.text
    assert "Traceback" not in program.text


@pytest.mark.slow
def test_threads_do_not_grow_with_clients(federation):
    server = federation.server(clients=1000)
    server.says("Waiting for clients")
    first = federation.program("first", PROGRAMS / "idle.py", str(federation.port), "1")
    first.says("all poll")
    before = psutil.Process(server.pid).num_threads()

    idle = federation.program("idle", PROGRAMS / "idle.py", str(federation.port), "200")
    idle.says("all poll")
    server.says("(200 available)")
    assert psutil.Process(server.pid).num_threads() == before
    assert before <= 4

    idle.kill()
    wait_for(lambda: re.findall(r"\((\d+) available", server.text)[-1] == "0", 15, "all 200 are missed")
    assert server.alive
