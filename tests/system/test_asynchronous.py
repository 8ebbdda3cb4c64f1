"""Asynchronous rounds over HTTP: the first answers make a version, who is slow goes on, a killed server forgets nothing."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.system

SERVER = """
import umbel as fl
from umbel.common import ndarrays_to_parameters
import numpy as np
strategy = fl.server.strategy.{strategy}(
    initial_parameters=ndarrays_to_parameters([np.zeros(1000, "float32")]),
    on_fit_config_fn=lambda number: {{"round": number}},
    fit_metrics_aggregation_fn=lambda sent: {{"begun in": sorted(metrics["round"] for _, metrics in sent)}},
    fraction_evaluate=0.0,
    {options}
)
history = fl.server.start_server(
    server_address={address!r}, config=fl.server.ServerConfig(num_rounds={rounds}), strategy=strategy
)
print("MADE OF", [value for _, value in history.metrics_distributed_fit["begun in"]])
"""
CLIENT = """
import threading
import umbel as fl

class Walker(fl.client.NumPyClient):
    def fit(self, parameters, config):
        threading.Event().wait({seconds})
        return [parameters[0] + 1], 1, {{"round": config["round"]}}

fl.client.start_client(server_address={address!r}, client=Walker(), client_id={name!r})
"""


def start(federation, tmp_path, rounds, strategy, options):
    def program(name, text, **values):
        path = tmp_path / f"{name}.py"
        path.write_text(text.format(address=federation.address, name=name, **values))
        return federation.program(name, path)

    for name, seconds in {"fast": 0.02, "middle": 0.1, "slow": 2.5}.items():
        program(name, CLIENT, seconds=seconds)
    return lambda: program("server", SERVER, rounds=rounds, strategy=strategy, options=options)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        pytest.param("FedBuff", "buffer_size=2, concurrency=3, min_available_clients=3", marks=pytest.mark.slow),
        ("FedAsync", "concurrency=3, min_available_clients=3"),
    ],
    ids=["FedBuff", "FedAsync"],
)
def test_who_is_slow_holds_nobody_up_and_counts_when_it_comes(federation, tmp_path, strategy, options):
    rounds = 200  # the quick ones have done fewer by the time that the slow one has come
    server = start(federation, tmp_path, rounds, strategy, options)()
    federation.all_end()
    made_of = eval(re.search(r"MADE OF (.*)", server.text)[1])
    assert len(made_of) == rounds
    assert {len(begun) for begun in made_of} == {2 if strategy == "FedBuff" else 1}
    stale = [number - begun[0] for number, begun in enumerate(made_of, 1)]
    assert max(stale) > 3, "the slow one's first update counts some rounds later"
    assert min(stale) == 0


@pytest.mark.slow
def test_a_killed_server_still_waits_for_those_who_were_at_work(federation, tmp_path):
    options = "buffer_size=2, concurrency=3, min_available_clients=3"
    server = start(federation, tmp_path, 60, "FedBuff", options)
    first = server()
    first.says("[ROUND 12/60]")
    first.kill()
    second = server()
    federation.all_end()
    assert "Resumed in round" in second.text
    kept = [path.name for path in federation.folder.glob("umbel-runs/*/*.safetensors")]
    assert kept == ["model-000060.safetensors"], "what nobody took up any more is removed"
    made_of = eval(re.search(r"MADE OF (.*)", second.text)[1])
    assert len(made_of) == 60
    assert any(number - begun[0] > 3 for number, begun in enumerate(made_of, 1))
