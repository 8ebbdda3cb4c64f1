"""Nothing goes wrong: a server, three clients, three rounds."""

from __future__ import annotations

import pytest
from federations import together

pytestmark = pytest.mark.system


def test_three_rounds_over_the_network_have_the_bits_of_a_run_in_one_process(federation, reference):
    server = federation.server(clients=3)
    clients = federation.clients("a", "b", "c")

    assert server.ends() == 0
    assert [client.ends() for client in clients] == [0, 0, 0]
    assert federation.model() == reference("abc")

    history = federation.history()
    assert [number for number, _ in history["losses_centralized"]] == [0, 1, 2, 3]
    assert [number for number, _ in history["losses_distributed"]] == [1, 2, 3]
    assert [number for number, _ in history["metrics_distributed_fit"]["first"]] == [1, 2, 3]
    assert [number for number, _ in history["metrics_centralized"]["largest"]] == [0, 1, 2, 3]
    assert history["failures"] == []
    for section in ("[INIT]", "[ROUND 1/3]", "[ROUND 2/3]", "[ROUND 3/3]", "[SUMMARY]"):
        assert server.text.count(section) == 1
    assert "fit: sampled 3 of 3 clients: a, b, c" in server.text
    assert "\x1b" not in server.text  # no colours in a file
    assert "Traceback" not in federation.words()


def test_a_run_that_asks_a_client_for_its_parameters_starts_from_them(federation, reference):
    server = federation.server(given=False)
    federation.clients("a", "b")

    assert server.ends() == 0
    assert "Using initial parameters from client a" in server.text
    assert federation.model() == reference()
    federation.all_end()


def test_order_of_arrival_does_not_change_one_bit(federations, reference):
    def story(order):
        federation = federations(order)
        server = federation.server(rounds=1, clients=3)
        clients = dict(zip("abc", federation.clients("a", "b", "c", hold=["fit.1"]), strict=True))
        for name in "abc":
            federation.reached(name, "fit.1")
        for name in order:
            federation.open(name, "fit.1")
            clients[name].says("Sent fit of round 1")

        assert server.ends() == 0
        assert federation.model() == reference("abc", rounds=1)
        federation.all_end()

    together(story, ["cba"], ["bca"])
