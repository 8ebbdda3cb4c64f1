"""Clients whose training holds the interpreter's lock in one C call: they cannot ask for anything, and are not gone."""

from __future__ import annotations

import pytest
from federations import together

pytestmark = pytest.mark.system

LOCKED = {"fit.1": 4.0}  # seconds, in which the client neither polls nor answers
QUICK = {"rounds": 1, "poll": 0.5}  # a poll that is open is a sign of life: here it is none for long


@pytest.mark.slow
def test_a_client_keeps_its_place_for_its_lease_while_its_connection_is_open(federations, reference):
    def story(name, lease, results, verdict):
        federation = federations(name)
        server = federation.server(lease=lease, **QUICK)
        locked = federation.client("a", locks=LOCKED)
        federation.client("b")
        assert server.ends() == 0
        federation.all_end()
        assert f"fit: received {results} results" in server.text
        assert f": {verdict}" in locked.text
        assert ("client a left: nothing heard for" in server.text) == (verdict == "stale")
        if results == 2:
            assert federation.model() == reference(rounds=1)

    together(story, ("long", 60.0, 2, "accepted"), ("short", 1.0, 1, "stale"))


@pytest.mark.slow
def test_a_finished_training_whose_round_is_open_counts_though_its_client_was_thought_gone(federation, reference):
    server = federation.server(lease=1.0, **QUICK)
    locked = federation.client("a", locks=LOCKED)
    federation.client("b", hold=["fit.1"])
    server.says("client a left: nothing heard for")
    locked.says("Sent fit of round 1")
    federation.open("b", "fit.1")
    assert server.ends() == 0
    federation.all_end()
    assert locked.text.count("Received fit of round 1") == 1
    assert ": accepted" in locked.text
    assert federation.model() == reference(rounds=1)
    assert federation.history()["failures"] == []


@pytest.mark.parametrize("lease", [0, -1, "60", None, float("nan")])
def test_a_lease_that_cannot_be_is_named(lease):
    from umbel.server import start_server

    with pytest.raises((ValueError, TypeError), match=r"lease=.*; it is a number of seconds above 0"):
        start_server(server_address="127.0.0.1:0", store=None, lease=lease)
