"""Within the limits of each answer, round after round: what a run keeps stays small, and its rounds stay quick."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_floods import MIB, rss

from umbel.params import Params

pytestmark = pytest.mark.system

ROUNDS = 24


def database(federation) -> int:
    return sum(path.stat().st_size for path in Path(federation.folder, "umbel-runs").glob("runs.sqlite*"))


def new_names(number):
    return {"metrics": {f"m{number}-{i}".ljust(1000, "x"): 1.0 * i for i in range(999)}}


def short_names(number):
    return {"metrics": {f"{number}-{i}": 1.0 * i for i in range(1000)}}


def failures(number):
    return {"failure": {"kind": "raised", "text": f"{number}" * 4000, "detail": "x" * 40_000}}


SLOW = (pytest.param(each, marks=pytest.mark.slow) for each in (short_names, failures))


@pytest.mark.parametrize("says", [new_names, *SLOW])
def test_what_one_client_reports_in_every_round_fills_neither_memory_nor_the_database(federation, strange, says):
    server = federation.server(rounds=ROUNDS)
    server.says("Waiting for clients")
    federation.client("a")
    stranger = strange(federation.port, "m")
    stranger.register()
    sizes, times = [], []
    for number in range(1, ROUNDS + 1):
        began = time.monotonic()
        for kind in ("fit", "evaluate"):
            answer = stranger.request("POST", "/v1/next", {"have": []})
            while not answer.body["tasks"]:
                answer = stranger.request("POST", "/v1/next", {"have": []})
            (task,) = answer.body["tasks"]
            stranger.task = task["id"]
            assert f".{number}.{kind}." in task["id"]
            said = says(2 * number + (kind == "fit"))
            if "failure" in said:
                assert stranger.reply(said).verdict == "noted"
                continue
            offer = {"num_examples": 10, "loss": 0.5}
            if kind == "fit":
                stranger.params = Params.from_bytes(bytearray(task["content"]["data"]))
                offer = stranger.offer()
            assert stranger.reply(offer | said).verdict == "accepted"
        times.append(time.monotonic() - began)
        if number in (ROUNDS // 4, ROUNDS):
            sizes.append((database(federation), rss(server)))
    stranger.leave()
    federation.all_end()
    (early, small), (late, large) = sizes
    history = federation.history()
    print(f"database {early / MIB:.1f} to {late / MIB:.1f} MiB, memory {small / MIB:.0f} to {large / MIB:.0f} MiB")
    assert max(len(history[name]) for name in ("metrics_distributed", "metrics_distributed_fit")) <= 1000
    assert sum(len(note["text"]) + len(note["detail"]) for note in history["failures"]) < 100_000
    assert late < 12 * MIB  # 50 in a hundred rounds
    assert large - small < 30 * MIB
    assert sum(times[-8:]) < 3 * sum(times[4:12]) + 1
