"""Ctrl-C, errors in the owner's code, and what is left when a process ends: nothing."""

from __future__ import annotations

import socket
import time

import psutil
import pytest
from federations import together

pytestmark = pytest.mark.system


def test_ctrl_c_on_the_server(federations):
    """Wherever it comes: clients are told, the History is printed, the state is on disk."""

    def story(moment, held_by, point):
        federation = federations(moment)
        server = federation.server(hold=[point], clients=2)
        clients = federation.clients("a", "b", hold=[point])
        federation.reached(held_by, point)
        server.interrupt()
        server.says("stopped by Ctrl-C")
        for name in ("a", "b"):
            federation.open(name, point)

        assert server.ends(10) == 130
        for client in clients:
            assert client.ends(5) == 0
            assert "The run is over: stopped by Ctrl-C" in client.text
            assert "start_client returned" in client.text
        assert "[SUMMARY]" in server.text
        assert "History (loss, distributed:\n\tround 1: " in server.text
        assert "Traceback" not in server.text
        assert federation.model()

        again = federation.server(hold=[])  # that was a clean end
        again.says("[ROUND 1/3]")
        assert "Resum" not in again.text

    together(
        story,
        ["while clients train", "a", "fit.2"],
        ["in the owner's code", "server", "central.2"],
        ["between two rounds", "server", "configure.2"],
    )


def test_ctrl_c_before_any_client_is_there(federation):
    server = federation.server()
    server.says("Waiting for clients")
    server.interrupt()
    assert server.ends(5) == 130
    assert "[SUMMARY]" in server.text
    assert "Traceback" not in server.text


def test_ctrl_c_on_a_client(federations):
    def story(moment, options, point):
        federation = federations(moment)
        server = federation.server(**options)
        client = federation.client("a", hold=["fit.1"])
        if point:
            federation.reached("a", point)
        else:
            server.says("client a joined")
        pressed = time.monotonic()
        client.interrupt()
        assert client.ends(5) == 130
        assert "Stopped by Ctrl-C" in client.text
        assert "Traceback" not in client.text
        server.says("client a left: it said goodbye (0 available)", 3)
        assert "refused" not in server.text
        assert time.monotonic() - pressed < 3

    together(story, ["while it waits", {"clients": 2}, ""], ["while it trains", {"clients": 1}, "fit.1"])


def test_ctrl_c_on_a_client_that_waits_for_its_server(federation):
    client = federation.client("a")
    client.says("Waiting for the server")
    client.interrupt()
    assert client.ends(5) == 130
    assert "Traceback" not in client.text


def test_an_error_in_the_owners_code_ends_the_server_and_the_run_can_go_on(federation, reference):
    server = federation.server(fails=2)
    clients = federation.clients("a", "b")
    server.says("ArithmeticError")
    failed = time.monotonic()
    assert server.ends(5) == 1
    assert time.monotonic() - failed < 5
    assert server.text.strip().splitlines()[-1] == "ArithmeticError: the test set of round 2 is gone"
    assert all(client.alive for client in clients)

    assert federation.server().ends(30) == 0  # with the test set found again
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()


def test_no_process_leaves_another_behind(federation):
    server = federation.server()
    federation.clients("a", "b", hold=["fit.1"])
    federation.reached("a", "fit.1")
    for program in federation.programs:
        assert psutil.Process(program.pid).children(recursive=True) == []
    for name in "ab":
        federation.open(name, "fit.1")
    assert server.ends() == 0
    federation.all_end()


def test_a_frozen_server_does_not_hold_a_client_that_is_stopped(federation):
    server = federation.server(clients=2)
    client = federation.client("a")
    server.says("client a joined")
    psutil.Process(server.pid).suspend()
    client.interrupt()
    assert client.ends(8) == 130


def test_ctrl_c_while_the_database_is_away_is_one_line(federation):
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = federation.server(store=f"postgresql://nobody@127.0.0.1:{port}/none")
    server.says("trying again, for up to")
    server.interrupt()
    assert server.ends(10) == 130
    assert server.text.endswith("Stopped by Ctrl-C, before the run was opened\n")
    assert "Traceback" not in server.text
