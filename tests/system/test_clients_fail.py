"""Clients that raise, die, come too late or come twice: the run goes on, and somebody says what happened."""

from __future__ import annotations

import time

import pytest
from federations import together

pytestmark = pytest.mark.system


def test_a_client_that_raises_is_reported_and_stays(federation):
    server = federation.server()
    federation.client("a")
    failing = federation.client("b", raises=["fit.1"])

    assert server.ends() == 0
    assert "fit: client b failed (raised): fit raised RuntimeError: no data for fit.1 today" in server.text
    assert server.text.count("no data for fit.1 today") == 1
    assert "fit: received 1 results and 1 failures" in server.text
    assert server.text.count("fit: received 2 results and 0 failures") == 2  # it is back in rounds 2 and 3
    (failure,) = federation.history()["failures"]
    assert (failure["round"], failure["client"], failure["reason"]) == (1, "b", "raised")
    assert 'raise RuntimeError(f"no data' in failure["detail"]  # the traceback
    assert failing.ends() == 0
    assert "RuntimeError: no data for fit.1 today" in failing.text
    federation.all_end()


def test_a_client_that_always_raises_does_not_spin_and_keeps_the_model(federation, reference):
    server = federation.server(clients=1, rounds=3)
    client = federation.client("a", raises=["fit", "evaluate"])

    assert server.ends() == 0
    assert client.ends() == 0
    assert client.text.count("Received fit") == 3
    assert client.text.count("Received evaluate") == 3
    assert server.text.count("no update came; the model stays as it is") == 3
    assert federation.model() == reference("a", rounds=0)
    assert federation.history()["losses_distributed"] == []
    assert len(federation.history()["failures"]) == 6


def test_an_update_with_nan_is_refused_in_words_and_its_client_stays(federations):
    """Whether it goes in one message or in parts."""

    def story(size):
        federation = federations(str(size))
        server = federation.server(rounds=2, size=size)
        federation.client("a")
        diverging = federation.client("b", spoils=["fit.1"])

        assert server.ends() == 0
        assert "fit: client b failed (rejected): array '0' contains nan; only finite values travel" in server.text
        assert "fit: received 2 results and 0 failures" in server.text  # round 2
        assert diverging.ends() == 0
        assert "The server did not take fit of round 1: array '0' contains nan" in diverging.text
        assert diverging.text.count("Received fit of round 1") == 1
        federation.all_end()

    together(story, [1000], [3_000_000])


def test_a_killed_client_is_missed_and_the_round_closes_with_the_others(federation):
    server = federation.server(clients=2, rounds=1)
    federation.client("a")
    victim = federation.client("b", hold=["fit.1"])
    federation.reached("b", "fit.1")
    killed = time.monotonic()
    victim.kill()

    server.says("client b left: its connection broke (1 available)")
    assert time.monotonic() - killed < 15
    server.says("fit: client b failed (left): the client went away")
    server.says("fit: received 1 results and 1 failures")
    server.says("Waiting for clients: 1 of 2 available")  # the evaluation wants two
    federation.client("c")
    assert server.ends() == 0
    federation.all_end()


@pytest.mark.slow
def test_when_all_clients_are_killed_new_ones_go_on(federation, reference):
    server = federation.server(rounds=2)
    victims = federation.clients("a", "b", hold=["fit.2"])
    for victim in victims:
        federation.reached(victim.name, "fit.2")
    for victim in victims:
        victim.kill()
    federation.clients("c", "d")

    assert server.ends(30) == 0
    federation.all_end()
    assert "client a left" in server.text
    assert "client b left" in server.text
    assert server.text.count("fit: sampled 2 of 2 clients, attempt 2: c, d") == 1
    assert [number for number, _ in federation.history()["losses_distributed"]] == [1, 2]


def test_a_killed_client_that_returns_under_its_name_gets_its_task_again(federation, reference):
    server = federation.server()
    federation.client("a")
    victim = federation.client("b", hold=["fit.2"])
    federation.reached("b", "fit.2")
    victim.kill()
    federation.client("b")

    assert server.ends() == 0
    assert "left" not in server.text  # nobody even missed it
    assert federation.history()["failures"] == []
    federation.all_end()
    assert federation.model() == reference()


def test_a_straggler_is_waited_for_no_longer_than_round_timeout(federation):
    server = federation.server(round_timeout=1.0, rounds=2)
    federation.client("a")
    straggler = federation.client("b", hold=["fit.1"])

    server.says("fit: client b failed (late): no answer after 1.0 s")
    server.says("fit: received 1 results and 1 failures")
    federation.open("b", "fit.1")
    straggler.says("The server did not take fit of round 1")
    straggler.says("stale")
    assert server.ends() == 0
    assert "fit: received 2 results and 0 failures" in server.text  # round 2
    federation.all_end()


@pytest.mark.slow
def test_who_is_missing_is_said_every_ten_seconds(federations):
    def waits_for_clients():
        federation = federations("clients")
        server = federation.server()
        federation.client("a")
        server.says("client a joined")
        server.says("Waiting for clients: 1 of 2 available", 16)

    def waits_for_an_answer():
        federation = federations("answer")
        server = federation.server()
        federation.client("a")
        federation.client("b", hold=["fit.1"])
        federation.reached("b", "fit.1")
        server.says("Waiting for fit of round 1 from b", 16)

    together(lambda story: story(), [waits_for_clients], [waits_for_an_answer])


def test_two_processes_with_one_name(federation, reference):
    """The newer one takes the older one's place, and the older one ends with a clear error."""
    server = federation.server()
    federation.client("a")
    older = federation.client("b", hold=["fit.2"])
    federation.reached("b", "fit.2")
    newer = federation.client("b")
    server.says("[ROUND 3/3]")
    federation.open("b", "fit.2")

    assert server.ends() == 0
    assert newer.ends() == 0
    assert older.ends() == 1
    assert "another process has registered under this client_id" in older.text.strip().splitlines()[-1]
    assert federation.history()["failures"] == []
    assert federation.model() == reference()
    federation.all_end()


def test_a_name_that_is_none_is_refused_in_words(federation):
    federation.server().says("Waiting for clients")
    client = federation.client("no/such name")
    assert client.ends() == 1
    assert "use 1 to 128 letters, digits and . _ : @ + -" in client.text.strip().splitlines()[-1]
