"""The examples whose frameworks repeat themselves: the same History simulated inline, in processes, and over the network.

Each party is a process of its own, as it would be.
"""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"
NEEDS = {"sklearn_sgd": "sklearn", "xgboost_bagging": "xgboost", "lightgbm_bagging": "lightgbm", "mlx_mlp": "mlx"}
PROGRAM = """
import importlib
import json
import sys

import umbel as fl

example, what, address, name = sys.argv[1:]
module = importlib.import_module(example)
make_strategy = getattr(module, "strategy", fl.server.strategy.FedAvg)
run = {"config": fl.server.ServerConfig(num_rounds=2), "seed": 3}


def strategy():
    return make_strategy(min_fit_clients=2, min_available_clients=2, min_evaluate_clients=2)


def tell(history):
    sums = [int(array.view("uint8").astype("int64").sum()) for array in map(bytes_of, history.parameters)]
    print(json.dumps([history.losses_distributed, history.metrics_distributed, sums, len(history.failures)]))


def bytes_of(array):
    import numpy as np

    return np.frombuffer(np.ascontiguousarray(array).tobytes(), "uint8")


if __name__ == "__main__":
    if what == "join":
        fl.client.start_client(server_address=address, client=module.client, client_id=name)
    else:
        simulation = {"client_fn": module.client, "num_clients": 2, "progress": False, **run}
        tell(fl.simulation.start_simulation(backend="inline", strategy=strategy(), **simulation))
        tell(fl.simulation.start_simulation(backend="processes", workers=2, strategy=strategy(), **simulation))
        tell(fl.server.start_server(server_address=address, strategy=strategy(), **run))
"""


@pytest.fixture
def start(tmp_path):
    """Starts the program, and leaves none behind."""
    (tmp_path / "party.py").write_text(PROGRAM)
    path = os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parents[1] / "src")])
    started = []

    def start_party(*arguments):
        party = subprocess.Popen(
            [sys.executable, tmp_path / "party.py", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(party)
        return party

    yield start_party
    for party in started:
        with party:
            party.kill()


@pytest.mark.parametrize("example", NEEDS)
def test_the_same_bits_inline_in_processes_and_over_the_network(example, start):
    missing = [name for name in (NEEDS[example], "sklearn") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{example} IS NOT TESTED: there is no {', '.join(missing)} here")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = start(example, "meet", address, "")
    clients = [start(example, "join", address, name) for name in ("0", "1")]
    output, errors = server.communicate(timeout=300)
    assert server.returncode == 0, errors
    inline, processes, network = output.splitlines()
    assert processes == inline
    assert network == inline
    assert inline.endswith(" 0]")  # nobody has failed
    for client in clients:
        assert client.wait(timeout=60) == 0
