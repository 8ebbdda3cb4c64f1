"""How long a new connection waits before it is read, where its address has just sent what is no HTTP, again and again, or
where one client of it after another had to go into quarantine.

A connection that is refused has cost its sender nothing; one that has to wait costs the sender a connection for that time.
An address is many clients' behind a NAT: whoever is in is not held up, and whoever comes is held up for seconds.
"""

from __future__ import annotations

import time
from collections import OrderedDict

__all__ = ["Penance"]

FORGIVEN = 20  # offences of one address that cost no time,
REMEMBERED = 10.0  # seconds, within which they are counted
LONGEST = 4.0
MOST = 10_000  # addresses remembered


class Penance:
    """Counts offences by address."""

    def __init__(self) -> None:
        self._offences: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, as of when

    def offends(self, address: str, times: int = 1) -> None:
        """Notes a connection of this address that had to be refused, or a client's so many requests."""
        self._offences[address] = self._count(address) + times, time.monotonic()
        self._offences.move_to_end(address)
        if len(self._offences) > MOST:
            self._offences.popitem(last=False)

    def wait(self, address: str) -> float:
        """The seconds that a new connection of this address waits."""
        count = self._count(address)
        return min(count / FORGIVEN, LONGEST) if count > FORGIVEN else 0.0

    def _count(self, address: str) -> float:
        """Offences that still count: each fades within `REMEMBERED`."""
        count, then = self._offences.get(address, (0.0, 0.0))
        return max(count * (1 - (time.monotonic() - then) / REMEMBERED), 0.0)
