"""A network that breaks connections and changes bytes: neither changes what comes of a run."""

from __future__ import annotations

import contextlib

import pytest
from federations import Relay, wait_for

pytestmark = pytest.mark.system

LARGE = 7_500_000  # float32 values: 30 MB


def test_an_upload_goes_on_where_its_connection_broke(federation, reference):
    with contextlib.closing(Relay(federation.port, stop_after=20_000_000)) as relay:
        server = federation.server(size=LARGE, rounds=1)
        far = federation.client("a", address=relay.address)
        federation.client("b")
        wait_for(lambda: relay.stopped, 20, "20 of 30 MB have passed")
        relay.stop_after = None
        relay.cut()

        assert server.ends(30) == 0
        federation.all_end()
        assert relay.passed < 45_000_000  # not all over again
    assert far.text.count("Received fit of round 1") == 1
    assert federation.model() == reference(size=LARGE, rounds=1)
    assert federation.history()["failures"] == []


@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_upload_that_was_damaged_on_its_way_is_sent_again(federation, reference, size):
    damaged = []

    def damage(data: bytes) -> bytes:
        """Changes one bit of one number, once."""
        if damaged or len(data) < 2000 or (size == LARGE and relay.passed < 10_000_000):
            return data
        damaged.append(True)
        return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]

    with contextlib.closing(Relay(federation.port)) as relay:
        relay.change = damage
        server = federation.server(size=size, rounds=1)
        far = federation.client("a", address=relay.address)
        federation.client("b")

        assert server.ends(30) == 0
        federation.all_end()
    assert damaged
    assert far.text.count("Received fit of round 1") == 1
    assert "the data was damaged on its way" in far.text
    assert federation.model() == reference(size=size, rounds=1)
    assert federation.history()["failures"] == []


def test_a_download_that_was_damaged_on_its_way_is_fetched_again(federation, reference):
    damaged = []

    def damage(data: bytes) -> bytes:
        if damaged or relay.returned < 10_000_000:
            return data
        damaged.append(True)
        return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]

    with contextlib.closing(Relay(federation.port)) as relay:
        relay.change_answers = damage
        server = federation.server(size=LARGE, rounds=1)
        far = federation.client("a", address=relay.address)
        federation.client("b")

        assert server.ends(30) == 0
        federation.all_end()
    assert damaged
    assert "was damaged on its way" in far.text
    assert federation.model() == reference(size=LARGE, rounds=1)
    assert federation.history()["failures"] == []
