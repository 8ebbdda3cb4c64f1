"""A run's secret and those of its clients, over the network: in a file each with mode 600, and nowhere else."""

from __future__ import annotations

import base64
import re
import stat

import pytest

from leaks import rows_of, spellings
from umbel.runtime.security.members import Members

pytestmark = pytest.mark.system

SERVER = """
import dataclasses, json, logging, sys
import numpy as np
import umbel as fl
from umbel.dialogue.results import current_round

class Noisy(fl.server.strategy.FedAvg):
    # what a strategy does that adds noise to the sum
    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        stream = current_round().secret().stream("noise", server_round, "model")
        (weights,) = fl.common.parameters_to_ndarrays(parameters)
        noise = stream.words(0, weights.size).astype("float64") * 2.0**-64
        return fl.common.ndarrays_to_parameters([weights + noise]), metrics

def watch(event):
    with open("events.jsonl", "a") as file:
        print(json.dumps({type(event).__name__: dataclasses.asdict(event)}), file=file)

logging.getLogger("umbel").setLevel(logging.DEBUG)
fl.server.start_server(
    server_address=sys.argv[1],
    store=sys.argv[2],
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=Noisy(initial_parameters=fl.common.ndarrays_to_parameters([np.zeros(1000)])),
    require_identity=True,
    audit=True,
    observers=[watch],
)
"""
CLIENT = """
import logging, sys
import numpy as np
import umbel as fl

class Draws(fl.client.NumPyClient):
    def fit(self, parameters, config):
        drawn = self.context.secret.stream("noise", 1, "model").words(0, 1000).astype("float64") * 2.0**-64
        return [parameters[0] + drawn], 1, {"mean": float(drawn.mean())}

    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), 1, {}

logging.getLogger("umbel").setLevel(logging.DEBUG)
fl.client.start_client(server_address=sys.argv[1], client=Draws(), client_id=sys.argv[2], join_token=sys.argv[3])
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_secrets_are_in_their_files_and_nowhere_else_and_a_killed_server_adds_the_same_noise(database, federations, request):
    federation = federations(database)
    where = request.getfixturevalue("postgres").database() if database == "postgres" else "umbel-runs"
    for name, text in (("server.py", SERVER), ("client.py", CLIENT)):
        (federation.folder / name).write_text(text)
    url = where if database == "postgres" else f"sqlite:///{federation.folder / 'umbel-runs' / 'runs.sqlite'}"
    url = url.replace("postgresql://", "postgresql+psycopg://")
    (federation.folder / "umbel-runs").mkdir()
    members = Members(url)
    tokens = [members.new_token(client=None, seconds=3600) for _ in "ab"]
    members.close()

    def server(dies=""):
        return federation.program("server", "server.py", federation.address, where, UMBEL_FAILPOINT=dies)

    first = server("model.after-write:2")  # version 2 is written, with its noise, and not in the journal
    named = zip("ab", tokens, strict=True)
    clients = [federation.program(name, "client.py", federation.address, name, token) for name, token in named]
    assert first.ends() == -9
    (folder,) = (path for path in (federation.folder / "umbel-runs").iterdir() if path.is_dir())
    begun = (folder / "model-000002.safetensors").read_bytes()

    kept = [folder / "secret", *(federation.folder / "umbel-identity" / f"{name}.pem.secret" for name in "ab")]
    secrets = [bytes.fromhex(path.read_text().split()[-1]) for path in kept]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}

    def has(secret):
        """Where it is found."""
        everything = {path: path.read_bytes() for path in federation.folder.rglob("*") if path.is_file()}
        everything["database"] = rows_of(url)
        wanted = [*spellings(secret)]
        return [place for place, data in everything.items() if any(each in data for each in wanted)]

    for at in range(3):
        assert any(each in base64.b64encode(bytes(at) + secrets[0] + b"more") for each in spellings(secrets[0]))
    assert [has(secret) for secret in secrets] == [[path] for path in kept]
    (folder / "model-000002.safetensors").unlink()
    second = server("model.after-write")  # it makes version 2 once more
    assert second.ends() == -9
    assert (folder / "model-000002.safetensors").read_bytes() == begun
    third = server()
    assert third.ends() == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert [has(secret) for secret in secrets] == [[], *([path] for path in kept[1:])]  # the run is over: so is its secret
    assert len(re.findall("TaskAnswered", (federation.folder / "events.jsonl").read_text())) >= 6
    assert "Audit: umbel audit verify" in third.text
