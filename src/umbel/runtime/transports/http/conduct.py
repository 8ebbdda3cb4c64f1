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
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.protocol import Refused

__all__ = ["Bucket", "Conduct"]

MOST = 10_000  # names and addresses remembered; the one unheard of for longest is forgotten
LINES = 0.1, 20  # about one client or address: a second, and at once
ALL_LINES = 20.0, 2_000
LONGEST = 3600.0  # seconds of quarantine
_T = TypeVar("_T")


class Bucket:
    """`burst` at once, and `rate` a second from then on."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), time.monotonic()

    def take(self) -> bool:
        """Whether there is one left, which is then gone."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, self._burst)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Record:
    """What is known of one client."""

    pace: Bucket
    offences: deque[float]
    times: int = 0  # in quarantine so far
    until: float = 0.0
    why: str = ""


@dataclass(slots=True)
class _Lines:
    pace: Bucket = field(default_factory=lambda: Bucket(*LINES))
    held_back: int = 0


class Conduct:
    """Keeps account of every client by name, and of every address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._registrations: OrderedDict[str, Bucket] = OrderedDict()
        self._lines: OrderedDict[str, _Lines] = OrderedDict()
        self._all_lines = Bucket(*ALL_LINES)

    def say(self, source: str, what: str) -> None:
        """Writes a line about a client or an address, unless there have been too many."""
        lines = _kept(self._lines, source) or _keep(self._lines, source, _Lines())
        if not (lines.pace.take() and self._all_lines.take()):
            lines.held_back += 1
            return
        more = f" ({lines.held_back:,} lines about it were left out)" if lines.held_back else ""
        lines.held_back = 0
        logger.warning("%s: %s%s", printable(source, 128), printable(what, 1000), more)

    def registers(self, address: str) -> None:
        """Raises `Refused` where too many registrations come from one address."""
        pace = _kept(self._registrations, address)
        if pace is None:
            pace = _keep(self._registrations, address, Bucket(*self._limits.registrations))
        if not pace.take():
            raise Refused(429, f"too many registrations from {address}; try again soon")

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


def _kept(table: OrderedDict[str, _T], key: str) -> _T | None:
    if key in table:
        table.move_to_end(key)
    return table.get(key)


def _keep(table: OrderedDict[str, _T], key: str, value: _T) -> _T:
    table[key] = value
    if len(table) > MOST:
        table.popitem(last=False)
    return value
