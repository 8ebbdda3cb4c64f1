"""What becomes of those whose requests are refused: a line in the log, a pace, and quarantine. Knows names, no requests.

A client whose requests are refused again and again, as no Umbel client's are, is in quarantine for a while: it is not asked
for anything, and hears why. Each line of the log is somebody's: a flood of refusals does not fill the disk.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TypeVar

from umbel.runtime.log import logger
from umbel.runtime.observers.console import printable
from umbel.runtime.transports.http.bucket import Bucket
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.protocol import Refused

__all__ = ["Refusals"]

MOST = 10_000  # names and addresses remembered; the one unheard of for longest is forgotten
LINES = 0.1, 20  # about one client or address: a second, and at once
SAME = 60.0  # seconds
CONNECTIONS = 1 / 60, 1  # the same, about its connections that are refused
ALL_LINES = 20.0, 2_000
KEPT_WAITING = 8.0  # seconds: whoever asks in vain on a thousand connections is answered 125 times a second
LONGEST = 3600.0  # seconds of quarantine
STAYS = 4.0  # seconds that a new client has been there: whoever only comes and goes is not
LATE = 1.0, 5  # such clients that enter, where others of their address come and go: a second, and at once
_T = TypeVar("_T")


@dataclass(slots=True)
class _Record:
    """What is known of one client."""

    pace: Bucket
    offences: deque[float]
    times: int = 0  # in quarantine so far
    until: float = 0.0
    why: str = ""


@dataclass(slots=True)
class _Refused:
    """Connections of one client or address that were refused, and of which no line tells yet."""

    pace: Bucket = field(default_factory=lambda: Bucket(*CONNECTIONS))
    untold: int = 0
    why: str = ""


@dataclass(slots=True)
class _Lines:
    pace: Bucket = field(default_factory=lambda: Bucket(*LINES))
    held_back: int = 0
    said: dict[str, float] = field(default_factory=dict)  # lately, and when


class Refusals:
    """Keeps account of every client by name, and of every address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._registrations: OrderedDict[str, Bucket] = OrderedDict()
        self._vain: OrderedDict[str, Bucket] = OrderedDict()
        self._entries: OrderedDict[str, Bucket] = OrderedDict()
        self._turnover: OrderedDict[str, Bucket] = OrderedDict()  # by address
        self._late: OrderedDict[str, Bucket] = OrderedDict()  # the same
        self._useful: OrderedDict[str, bool] = OrderedDict()
        self._lines: OrderedDict[str, _Lines] = OrderedDict()
        self._all_lines = Bucket(*ALL_LINES)
        self._refused: OrderedDict[str, _Refused] = OrderedDict()

    def say(self, source: str, what: str, *, again: bool = True) -> None:
        """Writes a line about a client or an address, unless there have been too many.

        Without `again`, the same is said once a minute.
        """
        lines = _kept(self._lines, source) or _keep(self._lines, source, _Lines())
        if not again:
            now = time.monotonic()
            if lines.said.get(what, -SAME) > now - SAME:
                lines.held_back += 1
                return
            if len(lines.said) >= LINES[1]:
                del lines.said[next(iter(lines.said))]
            lines.said[what] = now
        if not (lines.pace.take() and self._all_lines.take()):
            lines.held_back += 1
            return
        more = f" ({lines.held_back:,} lines about it were left out)" if lines.held_back else ""
        lines.held_back = 0
        logger.warning("%s: %s%s", printable(source, 128), printable(what, 1000), more)

    def complain(self, source: str, why: str) -> None:
        """Writes a line about a refused connection: the first one at once, and one a minute for all that follow."""
        refused = _kept(self._refused, source) or _keep(self._refused, source, _Refused())
        if refused.pace.take() and self._all_lines.take():
            logger.warning("%s: %s", printable(source, 128), printable(why, 1000))
        else:
            refused.untold, refused.why = refused.untold + 1, why

    def sweep(self) -> None:
        """Writes the lines about refused connections that are due."""
        for source, refused in self._refused.items():
            if refused.untold and refused.pace.take():
                more = f"{refused.untold:,} more connections refused, the last one: {printable(refused.why, 1000)}"
                logger.warning("%s: %s", printable(source, 128), more)
                refused.untold = 0

    def registers(self, address: str) -> None:
        """Raises `Refused` where too many registrations come from one address."""
        if not _pace(self._registrations, address, self._limits.registrations).take():
            raise Refused(429, f"too many registrations from {address}; try again soon")

    def in_vain(self, source: str, *, stranger: bool) -> float:
        """Notes a request that came to nothing; the seconds for which its answer is kept back, where there were too many."""
        key = source if stranger else f"client {source}"  # who may be called like an address
        limit = self._limits.vain_of_strangers if stranger else self._limits.vain
        return 0.0 if _pace(self._vain, key, limit).take() else KEPT_WAITING

    def enters(self, client: str, address: str, stayed: float = 0.0) -> bool:
        """Whether a client that has been there for `stayed` seconds takes part now; else it may in a while.

        Each that does is a line in the journal. Where an address's clients come and go, whoever stays enters before them.
        """
        pace = _pace(self._entries, client, self._limits.entries)
        if pace.left() < 1:
            return False
        turnover = _kept(self._turnover, address)
        spent = turnover is not None and turnover.left() < 1 and client not in self._useful
        if spent and (stayed < STAYS or not _pace(self._late, address, LATE).take()):
            return False
        return pace.take()

    def leaves(self, client: str, address: str) -> None:
        """A client has gone that took part."""
        if client not in self._useful:
            _pace(self._turnover, address, self._limits.turnover).take()

    def serves(self, client: str) -> None:
        """A client has answered a task."""
        if _kept(self._useful, client) is None:
            _keep(self._useful, client, True)

    def asks(self, client: str) -> None:
        """Raises `Refused` where one client sends too many requests."""
        if not self._of(client).pace.take():
            rate = self._limits.requests[0]
            raise Refused(429, f"client {client} sends more than {rate:,.0f} requests a second; try again soon")

    def admit(self, client: str) -> None:
        """Raises `Refused` for a client in quarantine."""
        record = _kept(self._records, client)
        left = 0.0 if record is None else record.until - time.monotonic()
        if record is not None and left > 0:
            raise Refused(429, f"client {client} is in quarantine for {left:.0f} s more: {record.why}")

    def offends(self, client: str, why: str) -> str:
        """Notes a request that no Umbel client sends; why the client is in quarantine from now on, or ""."""
        record, now, limits = self._of(client), time.monotonic(), self._limits
        record.offences.append(now)
        if len(record.offences) < limits.offences or now - record.offences[0] > limits.memory:
            return ""
        seconds = min(limits.quarantine * 2.0**record.times, LONGEST)
        record.times = min(record.times + 1, 16)
        record.until = now + seconds
        record.offences.clear()
        record.why = f"{limits.offences} of its requests were refused within {limits.memory:g} s, the last one because {why}"
        return f"in quarantine for {seconds:g} s: {record.why}"

    def _of(self, client: str) -> _Record:
        record = _kept(self._records, client)
        if record is None:
            fresh = _Record(Bucket(*self._limits.requests), deque(maxlen=self._limits.offences))
            record = _keep(self._records, client, fresh)
        return record


def _pace(table: OrderedDict[str, Bucket], key: str, limit: tuple[float, int]) -> Bucket:
    """How much this client or address has left; all of it where nothing is known of it."""
    return _kept(table, key) or _keep(table, key, Bucket(*limit))


def _kept(table: OrderedDict[str, _T], key: str) -> _T | None:
    if key in table:
        table.move_to_end(key)
    return table.get(key)


def _keep(table: OrderedDict[str, _T], key: str, value: _T) -> _T:
    table[key] = value
    if len(table) > MOST:
        table.popitem(last=False)
    return value
