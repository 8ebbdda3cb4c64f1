"""What a client asks of the way to its server: a request goes out, an answer comes. Knows no way in particular."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

__all__ = ["Body", "Response", "Waits", "Way"]

Body = bytes | Iterable[memoryview] | None  # one that is made while it is sent has its length among the headers


class Waits(NamedTuple):
    """Seconds that a connection, or the next bytes that are sent, may take; and the next bytes of an answer."""

    connect: float
    read: float


class Response(Protocol):
    """An answer whose head has come. `data` is all of its body, and `readinto` takes the next bytes, 0 at the end.

    Both raise `OSError` or urllib3's `HTTPError` where the connection breaks. `release_conn` gives it back for the next
    request, where all has been read; `close` ends it.
    """

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def data(self) -> bytes: ...
    def readinto(self, out: memoryview, /) -> int: ...
    def release_conn(self) -> None: ...
    def close(self) -> None: ...


class Way(Protocol):
    """Sends requests, from any thread. `clear` closes the idle connections."""

    def send(self, method: str, target: str, *, body: Body, headers: Mapping[str, str], timeout: Waits) -> Response: ...
    def clear(self) -> None: ...
