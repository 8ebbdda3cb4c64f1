"""Whatever a client's code raises is a failed task with its place, and its client stays: everywhere the same."""

from __future__ import annotations

import signal

import pytest
from federations import PROGRAMS, together
from mishaps import MISHAPS, Unlucky, lines

import umbel as fl

pytestmark = pytest.mark.system


@pytest.mark.parametrize("backend", ["inline", "processes"])
def test_in_a_simulation(backend):
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: Unlucky(int(cid)),
        num_clients=len(MISHAPS) + 1,
        config=fl.server.ServerConfig(num_rounds=1),
        backend=backend,
        workers=2,
        progress=False,
    )
    assert [(note.client, note.reason, note.text) for note in history.failures] == [
        (str(number), "raised", line) for number, line in enumerate(lines())
    ]
    assert history.losses_distributed == [(1, 1.0)]  # the one that had no mishap counts


def test_over_the_network(federation):
    server = federation.server(clients=1, rounds=len(MISHAPS) + 1, given=True, central=False)
    client = federation.program("unlucky", PROGRAMS / "mishaps.py", federation.address)
    assert server.ends() == 0
    assert client.ends() == 0
    assert "start_client returned" in client.text
    for line in lines():
        assert f"client unlucky failed (raised): {line}" in server.text
        assert f"failed: {line}" in client.text
    assert "left" not in server.text
    assert [number for number, _ in federation.history()["losses_distributed"]] == list(range(1, len(MISHAPS) + 2))


ENDS = """
import signal, sys, numpy as np, umbel as fl

class Waits(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(1)]

    def fit(self, parameters, config):
        print("in fit", flush=True)
        {waits}

def goodbye(number, frame):
    print("the program's own handler", flush=True)
    sys.exit(7)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, goodbye)
    if sys.argv[1] == "inline":
        fl.simulation.start_simulation(client_fn=lambda cid: Waits(), num_clients=2, backend="inline", progress=False)
    else:
        fl.client.start_client(server_address=sys.argv[1], client=Waits())
"""


def test_ctrl_c_and_a_handler_of_the_programs_own_end_a_client_that_is_at_work(federations):
    def story(name, number, code, waits):
        federation = federations(name)
        federation.server(clients=1, rounds=1)
        (federation.folder / "ends.py").write_text(ENDS.format(waits=waits))
        client = federation.program("waits", "ends.py", federation.address)
        client.says("in fit")
        client.process.send_signal(number)
        assert client.ends() == code, client.text

    sleeps = "import threading; threading.Event().wait(60)"
    together(
        story,
        ("ctrl-c", signal.SIGINT, 130, sleeps),
        ("handler", signal.SIGTERM, 7, sleeps),
        ("handler in a loop", signal.SIGTERM, 7, "while True: pass"),
    )


FORKS = """
import os, sys, numpy as np, umbel as fl

class Forks(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(1)]

    def fit(self, parameters, config):
        if (child := os.fork()) == 0:
            sys.exit(5)
        _, status = os.waitpid(child, 0)
        return parameters, 1, {"status": os.waitstatus_to_exitcode(status)}

if __name__ == "__main__":
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: Forks(), num_clients=2, backend="inline", progress=False,
        config=fl.server.ServerConfig(num_rounds=1),
        strategy=fl.server.strategy.FedAvg(fraction_evaluate=0.0, fit_metrics_aggregation_fn=lambda found: found[0][1]),
    )
    print(history.metrics_distributed_fit, history.failures)
"""


def test_a_child_that_a_client_has_forked_ends_when_it_exits(federation):
    (federation.folder / "forks.py").write_text(FORKS)
    program = federation.program("forks", "forks.py")
    assert program.ends() == 0
    assert program.text.count("{'status': [(1, 5)]} []") == 1
