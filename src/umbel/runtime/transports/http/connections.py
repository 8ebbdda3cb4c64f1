"""Which connections may stay: how many, for how long, and whose. Knows bytes and clocks; knows no requests' meaning.

A connection is a stranger's until a request on it names a living session. Strangers have little time, and where there are
too many connections, the address that has most of them loses one, and there whoever has most: a flood closes its own
connections, whoever means to register needs one for milliseconds, and a thousand clients behind one address keep theirs.

All of it happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from umbel.runtime.transports.http.bucket import Bucket
from umbel.runtime.transports.http.forwarded import plain
from umbel.runtime.transports.http.penance import Penance
from umbel.runtime.transports.http.protocol import OURS, Refused

__all__ = ["Connection", "Connections", "Limits", "Peer"]

Peer = tuple[str, int]
SOON = 2**18  # bytes of a message that has just been refused: its sender will stop
REST = 0.1  # seconds
IDLE = 75.0  # seconds at least that a client's connection may wait for its next request
SETTLING = 2.0  # seconds until the pace of a body can be told
KEPT = 32 * 2**20  # bytes that have come too soon, of all connections


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server anybody may have. Times in seconds, sizes in bytes."""

    connections: int = 16_384  # open ones in all
    strangers: int = 1_024  # open ones of one address that belong to no client
    per_client: int = 32  # open ones of one client; its own Umbel opens three or four
    head: float = 10.0  # until a request's head, or a stranger's whole request, must be there
    pause: float = 30.0  # without a byte, in the middle of a body or of an answer
    lease: float = 180.0  # of a client without a request, or with an answer unread: it may hold its interpreter's lock
    rate: int = 2_048  # a second, of a body, over such a pause
    unread: int = 64 * 2**20  # of a body that has been refused, before the connection is cut
    unwanted: float = 16 * 2**20  # of such bodies, a second: more are not read for the time being
    vain: tuple[float, int] = (1.0, 30)  # requests of one client that come to nothing, before it is kept waiting: the same
    vain_of_strangers: tuple[float, int] = (50.0, 1_000)  # and of one address
    entries: tuple[float, int] = (1 / 60, 3)  # times that one client joins: a second, and at once
    turnover: tuple[float, int] = (1.0, 200)  # clients of one address that leave before they were of use: the same
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
        *("certified", "heard", "address", "shared", "came", "came_since", "refused"),
    )

    def __init__(self, peer: Peer, transport: asyncio.Transport, sender: str = "", *, shared: bool = False) -> None:
        """`sender` has the address that a trusted proxy has told; a `shared` connection is such a proxy's own."""
        self.peer = peer
        self.address = sender or plain(peer[0])
        self.shared = shared
        self.transport = transport
        self.owner = ""  # the client whose session a request on it has named
        self.certified = bool(transport.get_extra_info("peercert"))  # TLS has checked it
        self.refused = False  # and its log line is written
        self.requests = 0  # under way
        self.receiving = False  # a request's body is being waited for
        self.came, self.came_since = 0, 0.0  # bytes of it, and since when
        self.since = self.heard = time.monotonic()  # when it was last idle; when bytes last came
        self.first_byte = 0.0  # of a head that is not yet complete, or of a body that nobody wants
        self.pending = 0  # bytes since then
        self.unsent, self.stuck = 0, 0.0  # bytes that its peer does not take, and since when

    def receives(self) -> None:
        """From now on, a request's body is waited for."""
        self.receiving, self.came, self.came_since = True, 0, time.monotonic()

    def moves(self) -> float:
        """How many bytes a second have come lately; infinitely many where that cannot be said yet."""
        seconds = time.monotonic() - self.came_since
        return self.came / seconds if seconds > SETTLING else float("inf")


class _Share:
    """One address's connections: by the client that uses them, "" for none, the oldest first."""

    __slots__ = ("_of", "number")

    def __init__(self) -> None:
        self._of: dict[str, dict[Peer, Connection]] = {}
        self.number = 0

    def add(self, connection: Connection) -> None:
        self._of.setdefault(connection.owner, {})[connection.peer] = connection
        self.number += 1

    def remove(self, connection: Connection) -> None:
        mine = self._of[connection.owner]
        del mine[connection.peer]
        self.number -= 1
        if not mine:
            del self._of[connection.owner]

    def of(self, owner: str) -> dict[Peer, Connection]:
        return self._of.get(owner, {})

    def first_to_go(self) -> Connection:
        """The oldest connection of whoever has most of them; of strangers, where that are as many."""
        most = max(self._of, key=lambda owner: (len(self._of[owner]), not owner))
        return next(iter(self._of[most].values()))


class Connections:
    """Every open connection by its peer. `say(source, why)` writes a line about one that had to be closed.

    `offends(client, why)` hears of a client whose bytes were not even a request.
    """

    def __init__(
        self, limits: Limits, say: Callable[[str, str], None], offends: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self.limits = limits
        self._say = say
        self._offends = offends
        self._penitents = Penance()
        self._unwanted = Bucket(limits.unwanted, limits.unwanted)
        self._kept = 0
        self._all: dict[Peer, Connection] = {}
        self._shares: dict[str, _Share] = {}  # by address
        self._owned: dict[str, set[Peer]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def opened(self, connection: Connection) -> float:
        """A new connection; an older stranger goes where there are too many. The seconds that it has to wait to be read."""
        self._all[connection.peer] = connection
        mine = self._shares.setdefault(connection.address, _Share())
        mine.add(connection)
        strangers = mine.of("")
        if len(strangers) > self.limits.strangers and not connection.shared:  # of a proxy's, the proxy counts its clients'
            why = f"more than {self.limits.strangers:,} connections that no client uses"
            self._close(next(iter(strangers.values())), why)
        elif len(self._all) > self.limits.connections:
            most = max(self._shares.values(), key=lambda share: share.number)
            self._close(most.first_to_go(), f"more than {self.limits.connections:,} connections in all", whose=False)
        return 0.0 if connection.shared else self._penitents.wait(connection.address)

    def keep(self, size: int) -> bool:
        """Whether memory is left for bytes that have come too soon; fewer than 0 are given back."""
        if size > 0 and self._kept + size > KEPT:
            return False
        self._kept += size
        return True

    def closed(self, peer: Peer) -> None:
        connection = self._all.pop(peer, None)
        if connection is not None:
            share = self._shares[connection.address]
            share.remove(connection)
            if not share.number:
                del self._shares[connection.address]
            self._disown(connection)

    def received(self, connection: Connection, size: int) -> float:
        """Bytes have come, for a request under way or for none. The seconds for which nothing else should be read."""
        connection.heard = time.monotonic()
        connection.came += size
        if not connection.requests:
            if not connection.pending:
                connection.first_byte = connection.heard
            connection.pending += size
            if connection.pending > self.limits.unread:
                self._close(connection, f"more than {self.limits.unread:,} bytes after a refusal")
            elif connection.pending > SOON and not self._unwanted.take(size):
                return REST
        return 0.0

    def refused(self, connection: Connection | None, why: str) -> None:
        """Bytes on it were not even a request. Whoever sends such again and again waits before the next is read."""
        if connection is not None and not connection.refused:
            connection.refused = True
            self._penitents.offends(connection.address)
            self._say(connection.owner or connection.address, why)
            if connection.owner:
                self._offends(connection.owner, why)

    def penalize(self, address: str) -> None:
        """A client of this address is in quarantine. Where that happens again and again, a new name costs it time."""
        self._penitents.offends(address, self.limits.offences)

    def evict(self, connection: Connection) -> None:
        """Its message gives way to another."""
        self._close(connection, "a message that had to give way: memory for messages is short", b"503 Service Unavailable")

    def begin(self, peer: Peer) -> Connection | None:
        """A request begins; on which connection, None where that has closed by now."""
        connection = self._all.get(peer)
        if connection is not None:
            connection.requests += 1
            connection.pending = 0
            connection.since = time.monotonic()
        return connection

    def end(self, connection: Connection) -> None:
        """A request is over."""
        connection.requests -= 1
        connection.receiving = False
        connection.since = time.monotonic()

    def trust(self, peer: Peer, client: str) -> None:
        """A request on this connection has named a session of this client. Raises `Refused` where it has too many."""
        connection = self._all.get(peer)
        if connection is None or connection.owner == client:
            return
        owned = self._owned.setdefault(client, set())
        if len(owned) >= self.limits.per_client:
            raise Refused(429, f"client {client} has {len(owned)} connections open; close some of them first")
        self._disown(connection)
        self._hand_over(connection, client)
        owned.add(connection.peer)

    def release(self, client: str) -> None:
        """The client's session is over: its connections are strangers' again."""
        for peer in self._owned.pop(client, set()):
            connection = self._all[peer]
            self._hand_over(connection, "")
            connection.since = time.monotonic()

    def sweep(self) -> None:
        """Closes what has taken too long."""
        now, limits = time.monotonic(), self.limits
        idle = max(limits.lease, IDLE)
        for connection in list(self._all.values()):
            quiet = now - connection.heard
            if not connection.requests:
                if connection.pending and now - connection.first_byte > limits.head:
                    self._close(connection, f"no whole request within {limits.head:g} s", b"408 Request Timeout")
                elif not connection.pending and now - connection.since > (idle if connection.owner else limits.head):
                    connection.transport.close()  # it has said nothing: then there is nothing to say
            elif connection.receiving:
                if not connection.owner and now - connection.since > limits.head:
                    self._close(connection, f"no whole request within {limits.head:g} s", b"408 Request Timeout")
                elif quiet > limits.pause:
                    self._close(connection, f"{limits.pause:g} s without a byte of a body", b"408 Request Timeout")
                elif now - connection.came_since > limits.pause:
                    if connection.came < limits.rate * limits.pause:
                        why = f"{connection.came:,} bytes of a body in {limits.pause:g} s; at least {limits.rate:,} a second"
                        self._close(connection, why, b"408 Request Timeout")
                    connection.receives()
            unsent = connection.transport.get_write_buffer_size()
            if not unsent or unsent != connection.unsent:
                connection.unsent, connection.stuck = unsent, now
            elif now - connection.stuck > (most := max(limits.pause, limits.lease) if connection.owner else limits.pause):
                self._close(connection, f"an answer that nobody has read for {most:g} s")

    def _hand_over(self, connection: Connection, owner: str) -> None:
        share = self._shares[connection.address]
        share.remove(connection)
        connection.owner = owner
        share.add(connection)

    def _disown(self, connection: Connection) -> None:
        owned = self._owned.get(connection.owner)
        if owned is not None:
            owned.discard(connection.peer)
            if not owned:
                del self._owned[connection.owner]

    def _close(self, connection: Connection, why: str, status: bytes = b"", *, whose: bool = True) -> None:
        """Closes a connection, with a line about the client `whose` it is, or its address."""
        connection.refused = True
        self._say((whose and connection.owner) or connection.address, why)
        if status:  # no answer has begun: its peer hears why
            text = f"{why}\n".encode()
            head = b"HTTP/1.1 %s\r\nconnection: close\r\n%s: 1\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
            connection.transport.write(head % (status, OURS.encode(), len(text)) + text)
            connection.transport.close()
        else:
            connection.transport.abort()
        self.closed(connection.peer)
