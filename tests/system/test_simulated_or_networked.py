"""The same clients with the same names, over real HTTP and simulated: one History and one model, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

SIMULATION = Path(__file__).parents[1] / "simulation"
sys.path.insert(0, str(SIMULATION))

from members import client_that_never_fails, fedavg  # noqa: E402

import umbel as fl  # noqa: E402

pytestmark = pytest.mark.system

SERVER = """
import dataclasses, json, sys
sys.path.insert(0, {folder!r})
from members import fedavg
import umbel as fl
history = fl.server.start_server(
    server_address={address!r},
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=fedavg(min_available_clients=3, min_fit_clients=2),
    seed=11,
)
open("history.json", "w").write(json.dumps(dataclasses.asdict(history)))
"""
CLIENT = """
import sys
sys.path.insert(0, {folder!r})
from members import client_that_never_fails
import umbel as fl
fl.client.start_client(server_address={address!r}, client_fn=client_that_never_fails, client_id={name!r})
"""


def test_clients_with_names_give_the_same_bits_over_http_and_simulated(federation, tmp_path):
    def program(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(text.format(folder=str(SIMULATION), address=federation.address, name=name))
        return federation.program(name, path)

    for name in ("server", "2", "0", "1"):
        program(name, SERVER if name == "server" else CLIENT)
    federation.all_end()

    history = fl.simulation.start_simulation(
        client_fn=client_that_never_fails,
        num_clients=3,
        config=fl.server.ServerConfig(num_rounds=3),
        strategy=fedavg(min_available_clients=3, min_fit_clients=2),
        backend="processes",
        workers=2,
        seed=11,
    )
    assert json.loads(json.dumps(dataclasses.asdict(history))) == federation.history()
