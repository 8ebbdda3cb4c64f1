"""Who has to go where memory for messages is short: connections that are closing already among them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from umbel.runtime.transports.http.body import Body
from umbel.runtime.transports.http.connections import Connection, Limits
from umbel.runtime.transports.http.forwarded import TrustedProxies
from umbel.runtime.transports.http.reception import Reception
from umbel.runtime.transports.http.refusals import Refusals
from umbel.runtime.transports.http.requests import Request
from umbel.runtime.transports.http.sessions import Sessions

KIB = 2**10


class Wire(asyncio.Transport):
    """A connection that is closed at once."""

    closing = False

    def write(self, data):
        pass

    def close(self):
        self.closing = True

    abort = close


@pytest.fixture
def reception():
    limits = replace(Limits(), buffered=8 * KIB)
    return Reception(
        Sessions(joined=lambda _: None, left=lambda *_: None, most=100, lease=180.0),
        limits=limits,
        refusals=Refusals(limits),
        certificate_needed=False,
        trusted=TrustedProxies(),
        gate=None,
        failed=lambda _: None,
        owes=lambda _: False,
    )


def request(address):
    connection = Connection((address, 1), Wire())
    connection.receives()
    return Request("POST", "/v1/next", b"/v1/next", [], Body(), peer=(address, 1), connection=connection)


def test_a_message_that_gave_way_and_read_on_for_a_moment_gives_way_again(reception):
    """What had come before its connection was closed is still read; it must not cost the next one an error."""
    there = [request(f"192.0.2.{n}") for n in range(8)]
    for one in there:
        reception.hold(one, KIB)
    reception.hold(request("192.0.2.100"), KIB // 2)
    (gone,) = [one for one in there if one.connection.transport.closing]

    reception.hold(gone, KIB // 2)
    gone.held.moves = 0.0
    reception.hold(request("192.0.2.101"), KIB // 2)
    assert sum(one.connection.transport.closing for one in there) == 1
