"""The server dies, by SIGKILL or by SIGTERM, and is started again: the run goes on as if nothing had been."""

from __future__ import annotations

import pytest
from federations import Relay, wait_for

pytestmark = pytest.mark.system

MOMENTS = {
    "while all clients train": ("a", "fit.2"),
    "while all clients evaluate": ("a", "evaluate.2"),
    "between two rounds, while it chooses": ("server", "configure.2"),
    "while it evaluates": ("server", "central.2"),
    "before the first round": ("server", "central.0"),
}


def _complete(history):
    """Every round is there once, also those from before the fault."""
    assert [number for number, _ in history["losses_centralized"]] == [0, 1, 2, 3]
    assert [number for number, _ in history["losses_distributed"]] == [1, 2, 3]
    assert [number for number, _ in history["metrics_distributed_fit"]["first"]] == [1, 2, 3]
    assert history["failures"] == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_server_goes_on_where_it_was(federation, reference, moment):
    who, point = MOMENTS[moment]
    first = federation.server(hold=[point])
    clients = federation.clients("a", "b", "c", hold=[point])
    federation.reached(who, point)
    first.kill()
    for name in ("server", "a", "b", "c"):
        federation.open(name, point)

    second = federation.server(hold=[point])
    assert second.ends(30) == 0
    assert second.text.count("Resuming run") == 1
    assert "start afresh with start_server(fresh=True)" in second.text
    assert [client.ends() for client in clients] == [0, 0, 0]
    assert federation.model() == reference()
    _complete(federation.history())
    assert "Traceback" not in federation.words()


def test_a_server_killed_when_some_have_answered_keeps_their_answers(federation, reference):
    first = federation.server()
    quick = federation.client("a")
    federation.clients("b", "c", hold=["fit.2"])
    quick.says("Sent fit of round 2")
    first.kill()
    for name in "bc":
        federation.open(name, "fit.2")

    assert federation.server().ends(30) == 0
    assert quick.text.count("Received fit of round 2") == 1  # trained once
    federation.all_end()
    assert federation.model() == reference()
    _complete(federation.history())


def test_a_server_killed_during_an_upload_of_30_mb_gets_it_again(federation, reference):
    relay = Relay(federation.port, stop_after=12_000_000)
    try:
        first = federation.server(size=7_500_000, rounds=1, clients=2)
        far = federation.client("a", address=relay.address)
        near = federation.client("b")
        wait_for(lambda: relay.stopped, 20, "12 of 30 MB have passed")
        assert list(federation.folder.rglob("*.part"))  # the upload is under way
        first.kill()
        relay.stop_after = None
        relay.cut()

        second = federation.server(size=7_500_000, rounds=1, clients=2)
        assert second.ends(30) == 0
        assert [far.ends(), near.ends()] == [0, 0]
        assert far.text.count("Received fit of round 1") == 1  # it was sent again, not trained again
        assert federation.model() == reference(("a", "b"), size=7_500_000, rounds=1)
        assert not list(federation.folder.rglob("*.part"))
    finally:
        relay.close()


def test_a_server_killed_again_and_again(federation, reference):
    clients = federation.clients("a", "b", "c", hold=["fit.1", "fit.2", "fit.3", "evaluate.3"])
    for point in ("fit.1", "fit.2", "fit.3", "evaluate.3"):
        server = federation.server()
        for name in "abc":
            federation.reached(name, point)
        server.kill()
        for name in "abc":
            federation.open(name, point)

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


def test_sigterm_leaves_a_run_that_goes_on(federation, reference):
    first = federation.server()
    clients = federation.clients("a", "b", "c", hold=["fit.2"])
    for name in "abc":
        federation.reached(name, "fit.2")
    first.terminate()
    assert first.ends(5) == 143
    assert "SIGTERM: the run is kept, and goes on when the same server is started again" in first.text
    for name in "abc":
        federation.open(name, "fit.2")
    clients[0].says("Waiting for the server")

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


def test_sigterm_while_the_owners_code_runs(federation, reference):
    first = federation.server(hold=["central.2"])
    clients = federation.clients("a", "b", "c")
    federation.reached("server", "central.2")
    first.terminate()
    assert first.ends(5) == 143

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


# ---- the same run, or another one?


def _killed_in_round_2(federation):
    server = federation.server()
    clients = federation.clients("a", "b", "c", hold=["fit.2"])
    for name in "abc":
        federation.reached(name, "fit.2")
    server.kill()
    for name in "abc":
        federation.open(name, "fit.2")
    run = server.text.split(", run ")[1].split(",")[0]
    return run, clients


def test_fresh_starts_anew(federation, reference):
    killed, _ = _killed_in_round_2(federation)

    server = federation.server(fresh=True)
    assert server.ends(30) == 0
    assert "Resum" not in server.text
    assert killed not in server.text
    assert "[ROUND 1/3]" in server.text
    federation.all_end()
    assert federation.model() == reference()
    _complete(federation.history())


def test_a_changed_keyword_starts_a_new_run_and_names_the_difference(federation, reference):
    killed, _ = _killed_in_round_2(federation)

    server = federation.server(keywords={"accept_failures": False})
    assert server.ends(30) == 0
    said = f"Run {killed} is unfinished, but this is another one: accept_failures was True and is False."
    assert f"{said} Go on with it by: umbel resume {killed}" in server.text
    assert "[ROUND 1/3]" in server.text
    federation.all_end()
    assert federation.model() == reference()


def test_a_run_that_has_become_longer_goes_on(federation, reference):
    killed, _ = _killed_in_round_2(federation)

    server = federation.server(rounds=5)
    assert server.ends(30) == 0
    assert f"Resuming run {killed}" in server.text
    assert "[ROUND 5/5]" in server.text
    assert "[ROUND 1/" not in server.text
    federation.all_end()
    assert federation.model() == reference(rounds=5)


def test_a_run_that_has_become_shorter_is_another_one(federation, reference):
    killed, _ = _killed_in_round_2(federation)

    server = federation.server(rounds=2)
    assert server.ends(30) == 0
    assert f"Run {killed} is unfinished, but this is another one: num_rounds has shrunk from 3 to 2" in server.text
    federation.all_end()
    assert federation.model() == reference(rounds=2)


def test_a_finished_run_is_not_resumed(federation):
    for _ in range(2):
        server = federation.server(rounds=1, clients=1)
        federation.client("a")
        assert server.ends() == 0
        federation.all_end()
        assert "Resum" not in server.text
        assert "[ROUND 1/1]" in server.text


def test_without_a_store_nothing_is_kept(federation):
    server = federation.server(rounds=1, clients=1, store=None)
    federation.client("a")
    assert server.ends() == 0
    federation.all_end()
    assert not (federation.folder / "umbel-runs").exists()


def test_a_run_whose_lock_is_held_is_not_resumed(federation):
    """Two servers of one script on different ports are different runs; on one port the second cannot even start."""
    first = federation.server()
    first.says("Waiting for clients")
    run = first.text.split(", run ")[1].split(",")[0]
    second = federation.server(address="127.0.0.1:0")
    second.says("Waiting for clients")
    assert f"Resuming run {run}" not in second.text
    assert first.alive
