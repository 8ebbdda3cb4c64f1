"""A network that breaks connections and changes bytes: neither changes what comes of a run."""

from __future__ import annotations

import contextlib
import threading

import pytest
from federations import together, wait_for

from umbel.testing import ChaosProxy

pytestmark = pytest.mark.system

LARGE = 7_500_000  # float32 values: 30 MB


def test_an_upload_goes_on_where_its_connection_broke(federation, reference):
    with contextlib.closing(ChaosProxy(federation.port, stop_after=20_000_000)) as relay:
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

    with contextlib.closing(ChaosProxy(federation.port)) as relay:
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

    with contextlib.closing(ChaosProxy(federation.port)) as relay:
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


MIB = 2**20


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["uploads", "downloads"])
def test_of_a_transfer_that_is_reset_at_any_byte_at_most_1_mib_is_sent_again(federation, reference, answers):
    """Two rounds of a 30 MB model over connections that live for 2 to 9 MB each."""
    between = {"reset_answers_after" if answers else "reset_after": (2 * MIB, 9 * MIB)}
    with ChaosProxy(federation.port, **between) as network:
        server = federation.server(size=LARGE, rounds=2)
        far = federation.client("a", address=network.address)
        federation.client("b")
        assert server.ends(60) == 0
        federation.all_end()
        needed = 30_000_000 * (4 if answers else 2)  # an evaluation gets the model, too
        again = (network.returned if answers else network.passed) - needed
        print(f"{network.resets} resets, {again / max(network.resets, 1) / MIB:.2f} MiB sent again for each")
        assert network.resets >= 6
        assert again <= network.resets * MIB
    assert far.text.count("Received fit of round") == 2  # nothing was trained twice
    assert federation.model() == reference(size=LARGE, rounds=2)
    assert federation.history()["failures"] == []


NETWORKS = {
    "one byte at a time": {"fragment": 1},
    "far away": {"latency": 0.05, "jitter": 0.1},
    "narrow": {"bandwidth": 200_000},
    "which sends every request twice": {"duplicate": True},
    "which breaks every few requests": {"reset_after": (500, 9000), "reset_answers_after": (500, 20_000)},
}


def test_any_network_gives_the_same_bits(federations, reference):
    def story(name, faults):
        federation = federations(name)
        with ChaosProxy(federation.port, **faults) as network:
            server = federation.server()
            clients = [federation.client(client, address=network.address) for client in "ab"]
            assert server.ends(60) == 0
            assert [client.ends() for client in clients] == [0, 0]
            assert (network.duplicates > 10) == ("duplicate" in faults)
            assert (network.resets > 3) == ("reset_after" in faults)
        assert federation.model() == reference()
        assert federation.history()["failures"] == []
        assert [client.text.count("Received fit of round") for client in clients] == [3, 3]

    together(story, *NETWORKS.items())


def parted_in_round_2(federation, network):
    """Client a behind the network and b beside it; a is at work in round 2 when the network is parted. Returns a."""
    far = federation.client("a", address=network.address, hold=["fit.2"])
    federation.client("b")
    federation.reached("a", "fit.2")
    network.part()
    return far


@pytest.mark.slow
def test_a_partition_shorter_than_the_lease_costs_nothing(federation, reference):
    with ChaosProxy(federation.port) as network:
        server = federation.server()
        far = parted_in_round_2(federation, network)
        federation.open("a", "fit.2")
        threading.Event().wait(4.0)  # a client's lease is 7 s
        assert "left" not in server.text
        network.heal()

        assert server.ends(40) == 0
        federation.all_end()
    assert far.text.count("Received fit of round 2") == 1
    assert federation.model() == reference()
    assert federation.history()["failures"] == []


@pytest.mark.slow
def test_a_partition_longer_than_the_lease_closes_the_round_with_those_who_are_there(federation):
    with ChaosProxy(federation.port) as network:
        server = federation.server()
        far = parted_in_round_2(federation, network)
        network.cut()
        federation.open("a", "fit.2")
        server.says("client a left: its connection broke", 20)
        server.says("fit: received 1 results and 1 failures", 20)
        network.heal()

        assert server.ends(60) == 0
        federation.all_end()
    assert "Sent fit of round 2" in far.text
    assert ": stale" in far.text
    failures = [note for note in federation.history()["failures"] if note["kind"] == "fit"]
    assert [(note["round"], note["client"], note["reason"]) for note in failures] == [(2, "a", "left")]
    assert [number for number, _ in federation.history()["losses_distributed"]][-1] == 3


@pytest.mark.slow
def test_a_partition_that_nobody_notices_closes_the_round_at_its_deadline(federation):
    """No connection breaks, no byte passes: only the deadline of the round can tell."""
    with ChaosProxy(federation.port) as network:
        server = federation.server(round_timeout=6)
        parted_in_round_2(federation, network)
        federation.open("a", "fit.2")
        server.says("fit: received 1 results and 1 failures", 20)
        network.heal()

        assert server.ends(60) == 0
        federation.all_end()
    failures = [note for note in federation.history()["failures"] if note["kind"] == "fit"]
    assert [(note["round"], note["client"], note["reason"]) for note in failures] == [(2, "a", "late")]
