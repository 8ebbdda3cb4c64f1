"""What a simulation has kept is damaged between two processes: the same bits, or a line that says what is lost."""

from __future__ import annotations

import contextlib
import sqlite3

import numpy as np
import pytest

import umbel as fl
from umbel.server.strategy import FedAdam
from umbel.simulation import start_simulation


class Dies(Exception):
    pass


class Learner(fl.client.NumPyClient):
    def __init__(self, context, keeps):
        self.context, self.keeps = context, keeps

    def fit(self, parameters, config):
        if self.keeps:
            self.context.state["rounds"] = self.context.state.get("rounds", 0) + 1
        step = self.context.rng().standard_normal(parameters[0].shape) + self.context.state.get("rounds", 0)
        return [parameters[0] + step.astype("float32")], 1 + int(self.context.node_id), {}

    def evaluate(self, parameters, config):
        return float(np.abs(parameters[0]).sum()), 1, {}


def simulate(store, *, dies_in=None, keeps=False):
    """Five rounds; the History and the bits of the model, None where the process dies."""
    seen = []

    def central(number, arrays, config):
        if number == dies_in:
            raise Dies
        seen[:] = [arrays[0].tobytes()]
        return float(np.abs(arrays[0]).sum()), {}

    with contextlib.suppress(Dies):
        history = start_simulation(
            client_fn=lambda context: Learner(context, keeps),
            num_clients=3,
            config=fl.server.ServerConfig(num_rounds=5),
            strategy=FedAdam(
                initial_parameters=fl.common.ndarrays_to_parameters([np.zeros(50, "float32")]), evaluate_fn=central
            ),
            backend="inline",
            store=store,
            progress=False,
        )
        return history.to_json(), seen
    return None


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model-000003", "model-000003+m", "model-000003+v"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()], ids=["a bit", "gone"])
def test_a_damaged_model_takes_a_simulation_back_to_what_was_kept_before(tmp_path, caplog, name, damage):
    whole = simulate(None)
    assert simulate(tmp_path, dies_in=4) is None
    versions = sorted(path.stem for path in tmp_path.glob("*/model-??????.safetensors"))
    assert versions == ["model-000002", "model-000003"]
    (path,) = tmp_path.glob(f"*/{name}.safetensors")
    damage(path)
    assert simulate(tmp_path) == whole
    assert "Going back to version 2 of the model: round 3 is done again" in caplog.text
    assert f"{name}.safetensors" in caplog.text


def test_a_damaged_model_before_the_newest_is_not_missed(tmp_path):
    whole = simulate(None)
    assert simulate(tmp_path, dies_in=4) is None
    (path,) = tmp_path.glob("*/model-000002.safetensors")
    flip(path)
    assert simulate(tmp_path) == whole


def test_where_both_are_damaged_or_clients_keep_something_the_simulation_says_what_is_lost(tmp_path):
    assert simulate(tmp_path / "both", dies_in=4) is None
    for path in (tmp_path / "both").glob("*/model-00000?.safetensors"):
        flip(path)
    with pytest.raises(SystemExit, match=r"^umbel: .*No whole version of the model is left"):
        simulate(tmp_path / "both")
    assert simulate(tmp_path / "keeps", dies_in=4, keeps=True) is None
    (path,) = (tmp_path / "keeps").glob("*/model-000003.safetensors")
    flip(path)
    with pytest.raises(SystemExit, match=r"^umbel: .*what its 3 clients keep is of that time"):
        simulate(tmp_path / "keeps", keeps=True)


def test_a_client_s_state_that_is_damaged_ends_the_simulation_with_its_name(tmp_path):
    assert simulate(tmp_path, dies_in=4, keeps=True) is None
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:
        connection.execute("UPDATE umbel_client_states SET body = CAST(body || x'00' AS BLOB) WHERE client = '1'")
        connection.commit()
    with pytest.raises(SystemExit, match=r"^umbel: .*is damaged: the state of client 1 in run .* is not what was written"):
        simulate(tmp_path, keeps=True)


def test_what_is_taken_away_while_a_simulation_is_on_ends_it(tmp_path):
    def central(number, arrays, config):
        if number == 3:
            for path in tmp_path.glob("*/model-*.safetensors"):
                path.unlink()
        return 0.0, {}

    with pytest.raises(SystemExit, match=r"^umbel: .*is gone. Start again: the run goes back to what is whole"):
        start_simulation(
            client_fn=lambda context: Learner(context, False),
            num_clients=3,
            config=fl.server.ServerConfig(num_rounds=5),
            strategy=FedAdam(
                initial_parameters=fl.common.ndarrays_to_parameters([np.zeros(50, "float32")]), evaluate_fn=central
            ),
            backend="inline",
            store=tmp_path,
            progress=False,
        )
