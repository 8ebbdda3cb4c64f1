"""Clients that are there before their server, and clients whose patience ends."""

from __future__ import annotations

import time

import pytest
from federations import together

pytestmark = pytest.mark.system


def test_a_client_that_starts_before_the_server_waits_and_says_for_whom(federation, reference):
    clients = federation.clients("a", "b")
    for client in clients:
        client.says(f"Waiting for the server at 127.0.0.1:{federation.port}: connection refused")
        assert client.text.count("Waiting") == 1  # said every 10 s, not at every try

    server = federation.server()
    assert server.ends() == 0
    federation.all_end()
    assert federation.model() == reference()
    assert f"Connected to the server at 127.0.0.1:{federation.port}" in clients[0].text


@pytest.mark.parametrize(
    ("patience", "tries"), [({"max_retries": 2}, "after 3 tries"), ({"max_wait_time": 0.5}, "tries in 0.")]
)
def test_a_client_whose_patience_ends_says_so_and_exits(federation, patience, tries):
    client = federation.client("a", **patience)

    assert client.ends(10) == 1
    last = client.text.strip().splitlines()[-1]
    assert client.text.count("Traceback") == 1  # and not those of what it is made of
    assert last.startswith(f"umbel.errors.ServerUnreachable: no server at 127.0.0.1:{federation.port} (connection refused)")
    assert tries in last
    assert "is it running, and reachable?" in last


def test_patience_counts_from_the_last_success(federation):
    server = federation.server(clients=1)
    server.says("Waiting for clients")  # the client's patience would not last for its start
    client = federation.client("a", hold=["fit.2"], max_wait_time=0.5)
    federation.reached("a", "fit.2")
    server.kill()
    federation.open("a", "fit.2")

    assert client.ends(10) == 1
    assert "ServerUnreachable" in client.text


def test_a_port_in_use_is_one_clear_line_and_exit_code_1(federation):
    started = time.monotonic()
    first = federation.server()
    first.says("Waiting for clients")
    starting = time.monotonic() - started  # a busy machine takes its time to start a server at all

    started = time.monotonic()
    second = federation.program("second", federation.programs[0].process.args[1], federation.programs[0].process.args[2])
    assert second.ends(5) == 1
    assert time.monotonic() - started < max(2, starting)
    assert second.text == (
        f"umbel: port {federation.port} is already in use on 127.0.0.1. "
        "Stop the other server, or choose another port with server_address=.\n"
    )
    assert first.alive


def test_a_client_may_come_in_any_form(federation, reference):
    forms = ["numpy", "client", "cid", "context", "requests"]
    names = ["a", "b", "c", "d", "e"]
    server = federation.server(rounds=2, clients=5, central=False)
    clients = [federation.client(name, form=form) for name, form in zip(names, forms, strict=True)]

    assert server.ends() == 0
    assert [client.ends() for client in clients] == [0] * 5
    assert federation.model() == reference(names, rounds=2)


def test_clients_without_names_get_names_of_their_own(federation):
    server = federation.server(rounds=1)
    federation.clients("a", "b", anonymous=True)

    assert server.ends() == 0
    federation.all_end()
    names = {line.split()[3] for line in server.text.splitlines() if " joined (" in line}
    assert len(names) == 2
    assert all(name.startswith("client-") for name in names)


def test_a_server_on_every_address(federations, reference):
    def story(where):
        federation = federations(where.strip("[]").replace(":", "v6"), host=where)
        server = federation.server(rounds=1, clients=3)
        server.says("Waiting for clients")
        assert f"Plain HTTP beyond loopback: whoever reaches port {federation.port} can read the model" in server.text
        federation.client("a", address=f"127.0.0.1:{federation.port}")
        federation.client("b", address=f"localhost:{federation.port}")
        federation.client("c", address=f"{where}:{federation.port}")  # where to bind, understood as where to connect
        assert server.ends() == 0
        federation.all_end()
        assert federation.model() == reference("abc", rounds=1)

    together(story, ["[::]"], ["0.0.0.0"])
