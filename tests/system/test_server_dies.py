"""The server dies, by SIGKILL or by SIGTERM, and is started again: the run goes on as if nothing had been."""

from __future__ import annotations

import numpy as np
import pytest
from federations import together, wait_for
from member import initial

from umbel.params import Params
from umbel.testing import ChaosProxy

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


def test_a_killed_server_goes_on_where_it_was(federations, reference):
    def story(moment, who, point):
        federation = federations(moment)
        first = federation.server(hold=[point])
        clients = federation.clients("a", "b", hold=[point])
        federation.reached(who, point)
        first.kill()
        for name in ("server", "a", "b"):
            federation.open(name, point)

        second = federation.server(hold=[point])
        assert second.ends(40) == 0
        assert second.text.count("Resuming run") == 1
        assert "start afresh with fresh=True" in second.text
        assert [client.ends() for client in clients] == [0, 0]
        assert federation.model() == reference()
        _complete(federation.history())
        assert "Traceback" not in federation.words()

    together(story, *[(moment, *where) for moment, where in MOMENTS.items()])


@pytest.mark.slow
def test_a_killed_server_remembers_what_its_strategy_remembered(federations, reference):
    def story(strategy):
        federation = federations(strategy)
        first = federation.server(strategy=strategy, hold=["central.2"])  # round 2 has been stepped
        clients = federation.clients("a", "b")
        federation.reached("server", "central.2")
        first.kill()
        federation.open("server", "central.2")

        assert federation.server(strategy=strategy).ends(40) == 0
        assert [client.ends() for client in clients] == [0, 0]
        assert federation.model() == reference(strategy=strategy)
        assert reference(strategy=strategy) != reference()

    together(story, ("adam",), ("clipping",))


@pytest.mark.slow
def test_a_server_killed_when_some_have_answered_keeps_their_answers(federation, reference):
    first = federation.server()
    quick = federation.client("a")
    federation.client("b", hold=["fit.2"])
    quick.says("Sent fit of round 2")
    first.kill()
    federation.open("b", "fit.2")

    assert federation.server().ends(30) == 0
    assert quick.text.count("Received fit of round 2") == 1  # trained once
    federation.all_end()
    assert federation.model() == reference()
    _complete(federation.history())


@pytest.mark.slow
def test_a_server_killed_during_an_upload_of_30_mb_gets_it_again(federation, reference):
    relay = ChaosProxy(federation.port, stop_after=12_000_000)
    try:
        first = federation.server(size=7_500_000, rounds=1)
        far = federation.client("a", address=relay.address)
        near = federation.client("b")
        wait_for(lambda: relay.stopped, 20, "12 of 30 MB have passed")
        assert list(federation.folder.rglob("*.part"))  # the upload is under way
        first.kill()
        relay.stop_after = None
        relay.cut()

        second = federation.server(size=7_500_000, rounds=1)
        assert second.ends(30) == 0
        assert [far.ends(), near.ends()] == [0, 0]
        assert far.text.count("Received fit of round 1") == 1  # it was sent again, not trained again
        assert federation.model() == reference(size=7_500_000, rounds=1)
        assert not list(federation.folder.rglob("*.part"))
    finally:
        relay.close()


@pytest.mark.slow
def test_a_server_killed_again_and_again(federation, reference):
    clients = federation.clients("a", "b", hold=["fit.2", "evaluate.3"])
    for point in ("fit.2", "evaluate.3"):
        server = federation.server()
        for name in "ab":
            federation.reached(name, point)
        server.kill()
        for name in "ab":
            federation.open(name, point)

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


@pytest.mark.slow
def test_a_server_killed_before_all_have_heard_of_the_end_goes_on_telling_them(federation, reference):
    first = federation.server(dies="reply.before-answer:11@1")  # the last answer counts, and its sender has not heard
    clients = federation.clients("a", "b")
    assert first.ends() == -9
    assert "Run over after 3 rounds" in first.text

    second = federation.server()
    assert second.ends(40) == 0
    assert "Resuming run" in second.text
    assert "Run over after 3 rounds" in second.text
    assert "all rounds done" in second.text
    assert [client.ends() for client in clients] == [0, 0]
    assert "stale" not in federation.words()
    assert federation.model() == reference()
    _complete(federation.history())


def test_sigterm_leaves_a_run_that_goes_on(federation, reference):
    first = federation.server()
    clients = federation.clients("a", "b", hold=["fit.2"])
    for name in "ab":
        federation.reached(name, "fit.2")
    first.terminate()
    assert first.ends(5) == 143
    assert "SIGTERM: the run is kept, and goes on when the same script is started again" in first.text
    for name in "ab":
        federation.open(name, "fit.2")
    clients[0].says("Waiting for the server")

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


@pytest.mark.slow
def test_sigterm_while_the_owners_code_runs(federation, reference):
    first = federation.server(hold=["central.2"])
    clients = federation.clients("a", "b")
    federation.reached("server", "central.2")
    first.terminate()
    assert first.ends(5) == 143

    assert federation.server().ends(30) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()
    _complete(federation.history())


# ---- the same run, or another one?


CHANGES = {
    "fresh": ({"fresh": True}, 3, False, ""),
    "a keyword": ({"keywords": {"accept_failures": False}}, 3, False, "accept_failures: True then, False now"),
    "fewer rounds": ({"rounds": 2}, 2, False, "num_rounds has shrunk from 3 to 2"),
    "another model": ({"size": 10}, 3, False, "model schema:"),
    "more rounds": ({"rounds": 5}, 5, True, ""),
    "another round_timeout": ({"round_timeout": 60}, 3, False, "rules:"),
}


@pytest.mark.slow
def test_what_makes_another_run(federations, reference):
    """A server killed in round 2 and started again with one thing changed: it resumes, or says why it does not."""

    def story(change, options, rounds, resumes, why):
        federation = federations(change)
        first = federation.server()
        federation.clients("a", "b", hold=["fit.2"])
        federation.reached("a", "fit.2")
        first.kill()
        run = first.text.split(", run ")[1].split(",")[0]
        for name in "ab":
            federation.open(name, "fit.2")

        second = federation.server(**options)
        assert second.ends(40) == 0
        assert (f"Resuming run {run}" in second.text) == resumes
        assert (f"[ROUND 1/{rounds}]" in second.text) != resumes
        assert f"[ROUND {rounds}/{rounds}]" in second.text
        named = f"Run {run} is unfinished, but this is another one ({why}"
        assert (named in second.text) == bool(why)
        assert (f"Go on with it by: umbel resume {run}" in second.text) == bool(why)
        federation.all_end()
        assert federation.model() == reference(rounds=rounds, size=options.get("size", 1000))
        assert [number for number, _ in federation.history()["losses_distributed"]] == [*range(1, rounds + 1)]

    together(story, *[(change, *expected) for change, expected in CHANGES.items()])


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


def test_a_killed_server_goes_on_counting_rounds_that_are_void(federations):
    federation = federations()
    too_fast = {"strategy": "adam", "keywords": {"eta": 1e308}, "rounds": 9}  # no step is finite
    first = federation.server(hold=["central.2"], **too_fast)  # rounds 1 and 2 are void
    federation.clients("a", "b")
    federation.reached("server", "central.2")
    first.kill()
    federation.open("server", "central.2")

    second = federation.server(**too_fast)
    assert second.ends(40) == 1
    assert "NotFinite: 3 rounds in a row were void, round 3 the last of them" in second.text
    assert 'FedAdam(max_update_norm="auto")' in second.text or "None of 2 updates stands out" in second.text
    ours = Params.from_bytes(federation.model()).arrays()
    assert all(np.array_equal(a, b) for a, b in zip(ours, initial(1000), strict=True))
    assert not list(federation.folder.glob("umbel-runs/*/model-*+*"))  # nothing has been remembered
    for client in federation.programs[1:3]:
        client.ends()
