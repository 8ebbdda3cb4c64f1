"""The body of a request on its way from the connection to whoever reads it. Knows bytes and an event loop; knows no HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Body", "Disconnected"]

SMALL = 2**14  # bytes that are cheaper to copy together than to hand on one by one


class Disconnected(Exception):
    """The connection ended before all of the request had come."""


class Body:
    """Bytes in order. `wanted()` is called when somebody waits for more of them. `size` is what waits to be taken."""

    __slots__ = ("_pieces", "_reader", "_wanted", "broken", "ended", "size")

    def __init__(self, wanted: Callable[[], None] = lambda: None) -> None:
        self._wanted = wanted
        self._pieces: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self.size = 0
        self.ended = self.broken = False

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)
        self._wake()

    def end(self) -> None:
        """All of it has come."""
        self.ended = True
        self._wake()

    def break_off(self) -> None:
        """Nothing more comes, and no answer goes out."""
        self.broken = True
        self._wake()

    async def read(self) -> bytes:
        """The next bytes, as they came; b"" at the end. Raises `Disconnected`."""
        while not (self._pieces or self.ended or self.broken):
            await self._wait()
        if self.broken:
            raise Disconnected
        if len(self._pieces) > 1 and self.size <= SMALL:
            data = b"".join(self._pieces)
            self._pieces.clear()
        else:
            data = self._pieces.popleft() if self._pieces else b""
        self.size -= len(data)
        return data

    async def _wait(self) -> None:
        self._wanted()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
