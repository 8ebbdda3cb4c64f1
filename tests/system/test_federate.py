"""fl.federate: one program simulated is the same program served and joined by real processes, to the bit."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from federations import PROGRAMS

import umbel as fl

pytestmark = [pytest.mark.system, pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")]
PROGRAM = PROGRAMS / "federated.py"


def test_simulated_and_joined_end_in_the_same_bits_with_layers_that_stay_at_home(federation):
    federation.program("server", PROGRAM, "serve", federation.address)
    for number in "201":
        federation.program(f"client {number}", PROGRAM, "join", federation.address, number)
    federation.program("simulation", PROGRAM, "simulate", "processes")
    federation.all_end(150)
    written = {name: (federation.folder / name).read_bytes() for name in ("serve.json", "simulate.json")}
    assert written["serve.json"] == written["simulate.json"]
    served, simulated = (fl.load(federation.folder / f"{how}.safetensors") for how in ("serve", "simulate"))
    assert served.names == simulated.names
    assert [array.tobytes() for array in served] == [array.tobytes() for array in simulated]
    assert [name for name in served.names if name.startswith("head")] == []
    assert (served.metadata["round"], simulated.metadata["run"]) == ("3", "simulation")
