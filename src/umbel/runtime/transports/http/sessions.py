"""Who is there: clients by name, their sessions and their connections. Knows no tasks.

A client is present from its first request until it says goodbye, its connection has ended and the grace period is over, or
nothing is heard of it for its lease: a training that holds the interpreter's lock keeps it from asking for anything, and its
connection open. Where proxies stand between, a connection is theirs: they end it when a request is answered, and all at once
when they are restarted. One process at a time plays a client: the newer fences the older.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from umbel.runtime.transports.http.bell import Bell
from umbel.runtime.transports.http.connections import Peer
from umbel.runtime.transports.http.protocol import Refused

if TYPE_CHECKING:
    from umbel.runtime.transports.http.gate import Holder

__all__ = ["SWEEP", "Present", "Sessions"]

GRACE = 7.0  # seconds a client may be without a connection: longer than a client's longest back-off, 5 s
RESUME_GRACE = 12.0  # the same, for the clients of a run that is resumed,
RELAYED_GRACE = 30.0  # and for one behind a proxy, which may be restarted
SWEEP = 0.5  # seconds between two looks at who is still there
MAX_FENCED = 10_000  # sessions remembered as fenced; older ones are merely unknown


@dataclass(slots=True, eq=False)
class Present:
    """A client, whichever process plays it at the moment.

    `news` wakes its polls, and `work` its replies, which wait for the next task.
    """

    name: str
    session: str = ""
    address: str = ""  # where it came from
    came_at: float = field(default_factory=time.monotonic)
    entered: bool = False  # `joined` has been called
    seen_at: float = 0.0
    grace: float = GRACE
    polls: int = 0  # open ones
    following: int = 0  # replies of its that wait for the next task
    relayed: bool = False  # it comes through a proxy
    resting: bool = False  # which has ended its last connection with nothing under way: that says nothing of the client
    holder: Holder | None = None  # of the key that its requests are signed with
    connections: set[Peer] = field(default_factory=set)
    news: Bell = field(default_factory=Bell)
    work: Bell = field(default_factory=Bell)

    def wake(self) -> None:
        """Has every waiting request of this client look again."""
        self.news.ring()
        self.work.ring()


class Sessions:
    """Calls `joined(name)` and `left(name, why)` as clients come and go. `known` ones have `RESUME_GRACE` to return.

    `most` bounds how many are present at the same time; `lease` is in seconds. `enters(name, address, stayed)` says whether
    one that has been present for `stayed` seconds takes part now: whoever comes and goes all the time does so unheard.
    `gone` hears of each that is no longer present.
    """

    def __init__(
        self,
        *,
        joined: Callable[[str], None],
        left: Callable[[str, str], None],
        known: Iterable[str] = (),
        most: int,
        lease: float,
        enters: Callable[[str, str, float], bool] = lambda *_: True,
        gone: Callable[[Present], None] = lambda _: None,
    ) -> None:
        self._joined, self._left, self._most, self._lease = joined, left, most, lease
        self._enters, self._gone = enters, gone
        self._present = {
            name: Present(name, seen_at=time.monotonic(), grace=RESUME_GRACE, entered=True) for name in known
        }
        self._addresses = Counter({"": len(self._present)})
        self._outside: dict[str, Present] = {}  # present, and not entered
        self._sessions: dict[str, Present] = {}
        self._fenced: OrderedDict[str, None] = OrderedDict()
        self._peers: dict[Peer, Present] = {}

    def __len__(self) -> int:
        return len(self._present)

    def __iter__(self) -> Iterator[Present]:
        return iter(list(self._present.values()))

    def get(self, name: str) -> Present | None:
        return self._present.get(name)

    def register(self, name: str, peer: Peer | None, address: str = "", *, relayed: bool = False) -> Present:
        """A new session for this name, which has been checked. Raises `Refused` where there are too many clients."""
        client = self._present.get(name)
        if client is None:
            if len(self._present) >= self._most:
                self._make_room(address)
            client = self._present[name] = Present(name, address=address)
            self._addresses[address] += 1
            self._let_in(client)
        elif client.address != address:  # it has moved, or was known before this process began
            self._count_out(client)
            client.address = address
            self._addresses[address] += 1
        self._end(client)
        client.session = secrets.token_hex(16)
        self._sessions[client.session] = client
        client.connections.clear()
        self.seen(client, peer, relayed=relayed)
        return client

    def find(self, session: str) -> Present | None:
        """The client of this session, if there is one."""
        return self._sessions.get(session)

    def of(self, session: str, *, held: bool = False) -> Present:
        """The client of this session. Raises `Refused`: 409 fenced, 401 unknown.

        `held` is a request that has begun within this session: where that has ended since, it was said.
        """
        client = self._sessions.get(session)
        if client is None:
            if session in self._fenced:
                raise Refused(
                    409,
                    "another process has registered under this client_id, and the newer one counts; start each client under "
                    "a client_id= of its own",
                )
            raise Refused(401, "unknown session, as all are after a restart of the server; register again", expected=held)
        return client

    def seen(self, client: Present, peer: Peer | None, *, relayed: bool = False) -> None:
        """A request of this client has come, on this connection, which is a proxy's where it is `relayed`."""
        client.relayed, client.resting = relayed, False
        client.seen_at, client.grace = time.monotonic(), min(RELAYED_GRACE, max(self._lease, GRACE)) if relayed else GRACE
        if peer is not None:
            before = self._peers.get(peer)  # a proxy uses one connection for several clients, one after another
            if before is not None and before is not client:
                before.connections.discard(peer)
            client.connections.add(peer)
            self._peers[peer] = client

    def leave(self, client: Present, why: str) -> None:
        """Forgets a client: it has to register again."""
        if self._present.pop(client.name, None) is not None:
            self._sessions.pop(client.session, None)
            client.session = ""
            client.wake()
            self._count_out(client)
            self._outside.pop(client.name, None)
            self._gone(client)
            if client.entered:
                self._left(client.name, why)

    def _count_out(self, client: Present) -> None:
        """The client is no longer one of its address."""
        self._addresses[client.address] -= 1
        if not self._addresses[client.address]:
            del self._addresses[client.address]

    def _make_room(self, address: str) -> None:
        """Lets the newest client go of the address that has most. Raises `Refused` where this one would have as many."""
        most, number = max(self._addresses.items(), key=lambda item: item[1])
        if number <= self._addresses[address] + 1:
            raise Refused(503, f"{self._most:,} clients are present, which is as many as this server takes")
        newest = next(client for client in reversed(self._present.values()) if client.address == most)
        self.leave(newest, f"{number:,} clients of its address are present, and one of another address needs room")

    def _let_in(self, client: Present) -> None:
        if self._enters(client.name, client.address, time.monotonic() - client.came_at):
            client.entered = True
            self._outside.pop(client.name, None)
            self._joined(client.name)
        else:
            self._outside[client.name] = client

    def disconnected(self, peer: Peer, idle: bool) -> None:
        """A connection has closed, for whatever reason; `idle` if no request was under way on it."""
        client = self._peers.pop(peer, None)
        if client is not None and peer in client.connections:
            client.connections.discard(peer)
            client.resting = idle and client.relayed
            client.seen_at = time.monotonic()

    def sweep(self) -> None:
        """Notices who has gone, and who may take part by now."""
        for client in [*self._outside.values()]:
            self._let_in(client)
        now = time.monotonic()
        for client in self:
            quiet = now - client.seen_at
            if not client.connections and not client.resting and quiet > client.grace:
                self.leave(client, "its connection broke")
            elif not client.polls and quiet > self._lease:
                self.leave(client, f"nothing heard for {quiet:.0f} s")

    def _end(self, client: Present) -> None:
        """Fences the process that has played this client so far, if there is one."""
        if self._sessions.pop(client.session, None) is not None:
            self._fenced[client.session] = None
            if len(self._fenced) > MAX_FENCED:
                self._fenced.popitem(last=False)
            client.wake()
