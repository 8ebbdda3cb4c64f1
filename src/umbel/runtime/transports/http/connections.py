"""Which connections may stay: how many, for how long, and whose. Knows bytes and clocks; knows no requests' meaning.

A connection is a stranger's until a request on it names a living session. Strangers have little time, and where there are
too many connections, the stranger that came first makes room for the one that comes: a flood closes its own connections,
and whoever means to register needs one for milliseconds.

All of it happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from umbel.runtime.transports.http.forwarded import plain
from umbel.runtime.transports.http.protocol import OURS, Refused

__all__ = ["Connection", "Connections", "Limits", "Peer"]

Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server anybody may have. Times in seconds, sizes in bytes."""

    connections: int = 16_384  # open ones in all
    strangers: int = 1_024  # open ones of one address that belong to no client
    per_client: int = 32  # open ones of one client; its own Umbel opens three or four
    head: float = 10.0  # until a request's head, or a stranger's whole request, must be there
    pause: float = 30.0  # without a byte, in the middle of a body or of an answer
    lease: float = 180.0  # of a client without a request, or with an answer unread: it may hold its interpreter's lock
    unread: int = 64 * 2**20  # of a body that has been refused, before the connection is cut
    clients: int = 20_000  # present at the same time
    registrations: tuple[float, int] = (100.0, 5_000)  # of one address: a second, and at once
    requests: tuple[float, int] = (2_000.0, 5_000)  # of one client: a second, and at once
    buffered: int = 512 * 2**20  # of messages that are being received, in all
    offences: int = 20  # of one client, refused one after another in `memory`, and it is in quarantine
    memory: float = 60.0
    quarantine: float = 60.0  # the first; each next one is twice as long


class Connection:
    """One connection, and what it is doing."""

    __slots__ = (
        *("owner", "peer", "pending", "receiving", "requests", "since", "stuck", "transport", "unsent", "first_byte"),
        *("certified", "heard", "address", "shared"),
    )

    def __init__(self, peer: Peer, transport: asyncio.Transport, sender: str = "", *, shared: bool = False) -> None:
        """`sender` has the address that a trusted proxy has told; a `shared` connection is such a proxy's own."""
        self.peer = peer
        self.address = sender or plain(peer[0])
        self.shared = shared
        self.transport = transport
        self.owner = ""  # the client whose session a request on it has named
        self.certified = bool(transport.get_extra_info("peercert"))  # TLS has checked it
        self.requests = 0  # under way
        self.receiving = False  # a request's body is being waited for
        self.since = self.heard = time.monotonic()  # when it was last idle; when bytes last came
        self.first_byte = 0.0  # of a head that is not yet complete, or of a body that nobody wants
        self.pending = 0  # bytes since then
        self.unsent, self.stuck = 0, 0.0  # bytes that its peer does not take, and since when


class Connections:
    """Every open connection by its peer. `say(address, why)` writes a line about one that had to be closed."""

    def __init__(self, limits: Limits, say: Callable[[str, str], None]) -> None:
        self.limits = limits
        self._say = say
        self._all: dict[Peer, Connection] = {}
        self._strangers: dict[str, dict[Peer, Connection]] = {}  # by address, the oldest first
        self._order: dict[Peer, Connection] = {}  # every stranger, the oldest first
        self._owned: dict[str, set[Peer]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def opened(self, connection: Connection) -> None:
        """A new connection; an older stranger goes where there are too many."""
        self._all[connection.peer] = connection
        self._estrange(connection)
        mine = self._strangers.get(connection.address, {})
        if len(mine) > self.limits.strangers:
            self._close(next(iter(mine.values())), f"more than {self.limits.strangers:,} connections that no client uses")
        elif len(self._all) > self.limits.connections and self._order:
            self._close(next(iter(self._order.values())), f"more than {self.limits.connections:,} connections in all")

    def closed(self, peer: Peer) -> None:
        connection = self._all.pop(peer, None)
        if connection is not None:
            self._befriend(connection)
            self._disown(connection)

    def received(self, connection: Connection, size: int) -> None:
        """Bytes have come, and no request is under way that they belong to, or one is."""
        connection.heard = time.monotonic()
        if not connection.requests:
            if not connection.pending:
                connection.first_byte = connection.heard
            connection.pending += size
            if connection.pending > self.limits.unread:
                self._close(connection, f"more than {self.limits.unread:,} bytes after a refusal")

    def refused(self, connection: Connection | None, why: str) -> None:
        """Bytes on it were not even a request."""
        if connection is not None:
            self._say(connection.owner or connection.address, why)

    @contextmanager
    def request(self, peer: Peer | None) -> Iterator[Connection | None]:
        """Inside, a request on this connection is under way."""
        connection = None if peer is None else self._all.get(peer)
        if connection is None:  # it has closed by now
            yield None
            return
        connection.requests += 1
        connection.pending = 0
        connection.since = time.monotonic()
        try:
            yield connection
        finally:
            connection.requests -= 1
            connection.receiving = False
            connection.since = time.monotonic()

    def trust(self, peer: Peer | None, client: str) -> None:
        """A request on this connection has named a session of this client. Raises `Refused` where it has too many."""
        connection = None if peer is None else self._all.get(peer)
        if connection is None or connection.owner == client:
            return
        owned = self._owned.setdefault(client, set())
        if len(owned) >= self.limits.per_client:
            raise Refused(429, f"client {client} has {len(owned)} connections open; close some of them first")
        self._befriend(connection)
        self._disown(connection)
        connection.owner = client
        owned.add(connection.peer)

    def release(self, client: str) -> None:
        """The client's session is over: its connections are strangers' again."""
        for peer in self._owned.pop(client, set()):
            connection = self._all[peer]
            connection.owner = ""
            connection.since = time.monotonic()
            self._estrange(connection)

    def sweep(self) -> None:
        """Closes what has taken too long."""
        now, limits = time.monotonic(), self.limits
        for connection in list(self._all.values()):
            quiet = now - connection.heard
            if not connection.requests:
                if connection.pending and now - connection.first_byte > limits.head:
                    self._close(connection, f"no whole request within {limits.head:g} s", b"408 Request Timeout")
                elif not connection.owner and not connection.pending and now - connection.since > limits.head:
                    connection.transport.close()  # it has said nothing: then there is nothing to say
            elif connection.receiving:
                if not connection.owner and now - connection.since > limits.head:
                    self._close(connection, f"no whole request within {limits.head:g} s", b"408 Request Timeout")
                elif quiet > limits.pause:
                    self._close(connection, f"{limits.pause:g} s without a byte of a body", b"408 Request Timeout")
            unsent = connection.transport.get_write_buffer_size()
            if not unsent or unsent != connection.unsent:
                connection.unsent, connection.stuck = unsent, now
            elif now - connection.stuck > (most := max(limits.pause, limits.lease) if connection.owner else limits.pause):
                self._close(connection, f"an answer that nobody has read for {most:g} s")

    def _estrange(self, connection: Connection) -> None:
        self._order[connection.peer] = connection
        if not connection.shared:  # a proxy's connections are many clients', and the proxy counts theirs
            self._strangers.setdefault(connection.address, {})[connection.peer] = connection

    def _befriend(self, connection: Connection) -> None:
        self._order.pop(connection.peer, None)
        mine = self._strangers.get(connection.address, {})
        if mine.pop(connection.peer, None) is not None and not mine:
            del self._strangers[connection.address]

    def _disown(self, connection: Connection) -> None:
        owned = self._owned.get(connection.owner)
        if owned is not None:
            owned.discard(connection.peer)
            if not owned:
                del self._owned[connection.owner]

    def _close(self, connection: Connection, why: str, status: bytes = b"") -> None:
        self._say(connection.owner or connection.address, why)
        if status:  # no answer has begun: its peer hears why
            text = f"{why}\n".encode()
            head = b"HTTP/1.1 %s\r\nconnection: close\r\n%s: 1\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
            connection.transport.write(head % (status, OURS.encode(), len(text)) + text)
            connection.transport.close()
        else:
            connection.transport.abort()
        self.closed(connection.peer)
