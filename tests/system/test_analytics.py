"""Federated analytics over the network: nobody has parameters, and the run begins all the same."""

from __future__ import annotations

import pytest
from federations import PROGRAMS, together

from umbel.params import Params

pytestmark = pytest.mark.system
COUNTS = PROGRAMS / "counts.py"
ROWS = '[{"rows": [[1, 10.0], [2, 10.0]]}, []]'


@pytest.mark.slow
def test_a_run_begins_with_an_empty_model_also_when_the_server_dies_over_it(federations):
    """The failpoints: while the word of the last client is taken in, and while the empty model is written."""

    def story(point):
        federation = federations(point)
        if point != "nowhere":
            dying = federation.program("server", COUNTS, "server", federation.address, UMBEL_FAILPOINT=point)
        server = None if point != "nowhere" else federation.program("server", COUNTS, "server", federation.address)
        clients = [federation.program(name, COUNTS, name, federation.address) for name in "ab"]
        if server is None:
            assert dying.ends() == -9, dying.text
            server = federation.program("server", COUNTS, "server", federation.address)
        assert server.ends() == 0, server.text
        assert ROWS in server.text
        assert "the model is empty, as for analytics" in server.text
        assert [client.ends() for client in clients] == [0, 0]
        assert all(client.text.count("given []") == 2 for client in clients)
        assert Params.from_bytes(federation.model()).arrays() == []

    together(story, ["nowhere"], ["model.before-write"], ["model.after-write"])


def test_a_run_begins_with_the_parameters_of_whoever_has_some(federation):
    server = federation.program("server", COUNTS, "server", federation.address)
    clients = [federation.program("a", COUNTS, "a", federation.address)]
    server.says("client a joined")
    clients.append(federation.program("b", COUNTS, "b", federation.address, "parameters"))
    assert server.ends() == 0, server.text
    assert ROWS in server.text
    assert "Using initial parameters from client b" in server.text
    assert [client.ends() for client in clients] == [0, 0]
    assert all(client.text.count("given [[7.0, 7.0]]") == 2 for client in clients)
