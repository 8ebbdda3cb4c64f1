"""Who is there, as their connections come and go; without a network."""

from __future__ import annotations

import pytest

from umbel.runtime.transports.http import sessions
from umbel.runtime.transports.http.sessions import GRACE, Sessions


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now[0])
    return now


def test_a_connection_that_a_proxy_uses_for_another_client_keeps_nobody_present(clock):
    left = []
    present = Sessions(joined=lambda name: None, left=lambda name, why: left.append((name, why)), most=10)
    upstream, other = ("10.0.0.1", 4711), ("10.0.0.1", 4712)
    present.register("a", upstream)
    b = present.register("b", upstream)  # the proxy's next request on it is another client's
    present.seen(b, other)
    clock[0] += GRACE + 1
    present.sweep()
    assert left == [("a", "its connection broke")]
