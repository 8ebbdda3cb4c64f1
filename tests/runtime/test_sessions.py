"""Who is there, as their connections come and go; without a network."""

from __future__ import annotations

import socket

import pytest

from umbel.runtime.transports.http import sessions
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import Refused
from umbel.runtime.transports.http.sessions import GRACE, RELAYED_GRACE, Sessions


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now[0])
    return now


def test_a_connection_that_a_proxy_uses_for_another_client_keeps_nobody_present(clock):
    left = []
    present = Sessions(joined=lambda name: None, left=lambda name, why: left.append((name, why)), most=10, lease=60.0)
    upstream, other = ("10.0.0.1", 4711), ("10.0.0.1", 4712)
    present.register("a", upstream)
    b = present.register("b", upstream)  # the proxy's next request on it is another client's
    present.seen(b, other)
    clock[0] += GRACE + 1
    present.sweep()
    assert left == [("a", "its connection broke")]


def silent(clock, seconds, *, relayed, ends):
    """Why a client has left after so many seconds without a request; `ends` says how its connection ended, if it did."""
    left, peer = [], ("10.0.0.1", 4711)
    present = Sessions(joined=lambda name: None, left=lambda name, why: left.append(why), most=10, lease=60.0)
    present.register("a", peer, relayed=relayed)
    if ends is not None:
        present.disconnected(peer, ends == "idle")
    clock[0] += seconds
    present.sweep()
    return left[0] if left else None


@pytest.mark.parametrize(
    ("seconds", "relayed", "ends", "why"),
    [
        (59, False, None, None),
        (61, False, None, "nothing heard for 61 s"),
        (GRACE + 1, False, "idle", "its connection broke"),  # its process has gone, which closes what it has open
        (GRACE + 1, False, "busy", "its connection broke"),
        (GRACE + 1, True, "busy", None),  # the proxy may be about to come back
        (RELAYED_GRACE + 1, True, "busy", "its connection broke"),
        (59, True, "idle", None),  # a proxy ends connections when it likes
        (61, True, "idle", "nothing heard for 61 s"),
    ],
)
def test_a_client_is_gone_when_its_connection_is_or_its_lease_is_over(clock, seconds, relayed, ends, why):
    assert silent(clock, seconds, relayed=relayed, ends=ends) == why


def test_where_there_are_too_many_clients_the_newest_of_the_largest_crowd_makes_room():
    left = []
    present = Sessions(joined=lambda name: None, left=lambda name, why: left.append(name), most=5, lease=60.0)
    for number in range(5):
        present.register(f"m{number}", ("x", number), "x")
    for number in range(2):
        present.register(f"a{number}", ("y", number), "y")
    assert left == ["m4", "m3"]
    with pytest.raises(Refused, match="5 clients are present"):
        present.register("a2", ("y", 2), "y")  # then it would have as many
    with pytest.raises(Refused, match="5 clients are present"):
        present.register("m5", ("x", 5), "x")
    assert len(present) == 5


def test_a_client_that_may_not_enter_is_served_unheard_until_it_may():
    heard, may = [], []
    present = Sessions(
        joined=lambda name: heard.append(f"{name} joined"),
        left=lambda name, why: heard.append(f"{name} left"),
        most=5,
        lease=60.0,
        enters=lambda name, address, stayed: name in may,
    )
    a = present.register("a", ("x", 1), "x")
    assert present.of(a.session) is a
    present.leave(a, "it said goodbye")
    assert not heard
    a = present.register("a", ("x", 1), "x")
    present.sweep()
    assert not heard
    may.append("a")
    present.sweep()
    present.sweep()
    assert heard == ["a joined"]
    present.leave(a, "it said goodbye")
    assert heard == ["a joined", "a left"]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
def test_a_machine_that_is_gone_is_noticed_by_the_system_whether_something_was_sent_to_it_or_not():
    """A lease would be long for it, and its own system does not say goodbye."""
    listener = Listener("127.0.0.1:0")
    with socket.create_connection(("127.0.0.1", listener.port), 10), listener._socket.accept()[0] as accepted:
        told = {name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS}
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    listener.stop()
    assert told["TCP_KEEPIDLE"] + told["TCP_KEEPINTVL"] * told["TCP_KEEPCNT"] <= 60
    assert 0 < told["TCP_USER_TIMEOUT"] <= 60_000


OPTIONS = ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"]


def test_clients_of_a_run_that_is_resumed_count_for_the_addresses_they_come_back_from():
    """They came from none before: together the largest crowd, of which the newest made room for whoever came."""
    left, known = [], ["a", "b", "c", "d"]
    present = Sessions(joined=lambda name: None, left=lambda name, why: left.append(name), known=known, most=4, lease=60.0)
    for number, name in enumerate(known):
        present.register(name, None, f"192.0.2.{number}")
    with pytest.raises(Refused, match="4 clients are present"):
        present.register("m", None, "192.0.2.6")
    assert left == []
    for client in present:
        present.leave(client, "it said goodbye")
    assert sorted(left) == known
