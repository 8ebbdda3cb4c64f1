"""Whose request is next, where more come than the server can answer. Knows names and an event loop; knows no requests.

Where there is nobody else, whoever comes is next. Where many wait, addresses take turns, and within an address its clients
do: who keeps a thousand requests waiting waits for a thousand turns, and who has one, for one. Clients who owe an answer
have turns of their own, and more of them: a round does not wait for those who only ask. And between two rounds of turns the
event loop sleeps: Python runs one thread at a time, and the run's loop, which has to be that one many times for a round of
training, would else wait 5 ms each time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TypeVar

__all__ = ["Turns"]

_T = TypeVar("_T")
OWING, ASKING = 4, 2  # requests that begin in
BREATH = 0.001  # seconds; where the machine is busy and more have passed, more begin,
MOST = 8  # times as many at most
ALONE = 4  # requests that begin in a breath where nobody has to wait


class Turns:
    """Lets requests begin. All of it happens in the event loop's thread."""

    def __init__(self) -> None:
        self._owing, self._asking = _Lane(OWING), _Lane(ASKING)
        self._due = False
        self._breathed = 0.0

    async def take(self, address: str, client: str, *, owes: bool) -> None:
        """Returns when it is this client's turn; `client` is "" for a stranger."""
        lane = self._owing if owes else self._asking
        if not self._due and time.monotonic() - self._breathed >= BREATH:  # nobody waits: so no timer has to say it
            self._breathe()
        if lane.left > 0:
            lane.left -= 1
        else:
            if not self._due:
                self._due = True
                asyncio.get_running_loop().call_later(BREATH, self._go_on)
            await lane.wait(address, client)

    def _go_on(self) -> None:
        waiting = self._breathe()
        self._due = waiting > 0
        if waiting:
            asyncio.get_running_loop().call_later(BREATH, self._go_on)

    def _breathe(self) -> int:
        """Lets as many begin as may. How many wait still, or have begun just now."""
        now = time.monotonic()
        times = min(round((now - self._breathed) / BREATH), MOST) or 1
        self._breathed = now
        return self._owing.go_on(times) + self._asking.go_on(times)


class _Lane:
    """Those who wait, by address and by client. `left` is how many more may begin before the next breath."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.left = max(quota, ALONE)
        self._waiting: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}
        self._number = 0

    async def wait(self, address: str, client: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, {}).setdefault(client, deque()).append(turn)
        self._number += 1
        await turn

    def go_on(self, times: int) -> int:
        """A breath later: lets as many begin as may. How many wait still, or have begun just now."""
        self.left = most = self.quota * times if self._number else max(self.quota, ALONE)
        while self._number and self.left > 0:
            turn = self._next()
            if not turn.done():  # its request was not given up
                turn.set_result(None)
                self.left -= 1
        return self._number + most - self.left

    def _next(self) -> asyncio.Future[None]:
        """The turn after the one before: the address, and its client, go to the end of their queues."""
        address, clients = _first(self._waiting)
        client, turns = _first(clients)
        turn = turns.popleft()
        self._number -= 1
        if turns:
            clients[client] = turns
        if clients:
            self._waiting[address] = clients
        return turn


def _first(queue: dict[str, _T]) -> tuple[str, _T]:
    key = next(iter(queue))
    return key, queue.pop(key)
