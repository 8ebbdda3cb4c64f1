"""A request as its handler sees it, and the answer to it. Knows HTTP's words; knows no sockets and no sessions.

uvicorn speaks ASGI, of which this file has all that the server needs. A framework's routes, requests and responses cost time
in each request, and the guards were ours anyhow.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import msgspec

from umbel.runtime.transports.http.connections import Connection, Peer
from umbel.runtime.transports.http.protocol import Refused, encode
from umbel.runtime.transports.http.targets import target_elsewhere
from umbel.wire import short

if TYPE_CHECKING:
    from umbel.runtime.transports.http.buffer import Held
    from umbel.runtime.transports.http.sessions import Present

__all__ = [
    "MAX_SMALL",
    "Application",
    "Disconnected",
    "Handler",
    "Headers",
    "Receive",
    "Request",
    "Response",
    "Route",
    "Routes",
    "Send",
    "message",
]

MAX_SMALL = 4096  # bytes of a registration or a commit

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):
    """The connection ended before all of the request had come."""


class Headers(Mapping[str, str]):
    """A request's fields by their names in small letters; of several with one name the first."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = raw
        self._first: dict[str, str] = {}
        for name, value in raw:
            self._first.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def getlist(self, name: str) -> list[str]:
        """All values of this name, in order."""
        key = name.encode("latin-1", "replace")
        return [value.decode("latin-1") for each, value in self._raw if each == key]


class Request:
    """A request, and what is known of it so far: its client, the memory that it holds, the digest that its body must have.

    `path` and `raw_path` begin with /v1/, whatever path a reverse proxy has before that: what is signed is the path from
    there on, and so it does not matter whether the proxy takes its own off.
    """

    __slots__ = (
        *("client", "connection", "digest", "headers", "held", "method", "parameters", "path", "peer", "raw_path", "target"),
        *("_ended", "_receive"),
    )

    def __init__(self, scope: Scope, receive: Receive, connection: Connection | None) -> None:
        self.method: str = scope["method"]
        self.headers = Headers(scope["headers"])
        self.peer: Peer | None = scope["client"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        start = self.raw_path.rfind(b"/v1/")
        if start > 0:
            self.raw_path = self.raw_path[start:]
            self.path = unquote(self.raw_path.decode("ascii", "replace"))
        self.target = target_elsewhere(scope)
        self.connection = connection
        self.parameters: Mapping[str, str] = {}  # what its path says
        self.client: Present | None = None
        self.digest: bytes | None = None
        self.held: Held | None = None
        self._receive = receive
        self._ended = False

    @property
    def length(self) -> int:
        """The body's length as its sender says it; more than any limit where it says none that can be."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 2**62

    async def stream(self) -> AsyncIterator[bytes]:
        """What is left of the body, as it comes. Raises `Disconnected`."""
        while not self._ended:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Disconnected
            self._ended = not message.get("more_body", False)
            if message["body"]:
                yield message["body"]

    async def disconnected(self) -> None:
        """Waits until the server has noticed that the connection has ended."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Response(NamedTuple):
    """An answer: a body as a whole, or one that is made while it is sent, with its length among the `headers`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] = b""

    async def send(self, send: Send, request: Request) -> None:
        """Sends it as the answer to a request. Makes the next block of a body only while the connection lasts."""
        fields = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        if isinstance(self.body, bytes):
            if self.status != 204:
                fields.append((b"content-length", b"%d" % len(self.body)))
            await send({"type": "http.response.start", "status": self.status, "headers": fields})
            await send({"type": "http.response.body", "body": self.body})
            return
        await send({"type": "http.response.start", "status": self.status, "headers": fields})
        async for block in self.body:
            await send({"type": "http.response.body", "body": block, "more_body": True})
            if request.connection is None or request.connection.transport.is_closing():
                await request.disconnected()
                break
        await send({"type": "http.response.body", "body": b""})


_MESSAGE = {"cache-control": "no-store", "content-type": "application/msgpack"}


def message(told: msgspec.Struct) -> Response:
    """The answer that is a message of the protocol."""
    return Response(200, _MESSAGE, encode(told))


Handler = Callable[[Request], Awaitable[Response]]


class Route(NamedTuple):
    """A path with its {parameters}, the method and the handler. `most`: bytes of a body; None: the handler sees to that."""

    path: str
    method: str
    most: int | None
    handler: Handler


class Routes:
    """The routes of a server."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[str, Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in routes:
            if "{" in route.path:
                self._patterns.append((re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)), route))
            else:
                self._plain[route.path] = route

    def find(self, request: Request) -> Route:
        """The request's route. Raises `Refused`: 404 for an unknown path, 405 for one that takes another method."""
        route = self._plain.get(request.path)
        if route is None:
            for pattern, each in self._patterns:
                match = pattern.fullmatch(request.path)
                if match is not None:
                    route, request.parameters = each, match.groupdict()
                    break
            else:
                raise Refused(404, f"{request.method} {short(request.path)} is nothing that this server knows")
        allowed = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        if request.method not in allowed:
            takes = ", ".join(allowed)
            raise Refused(405, f"{short(request.path)} takes {takes}, not {request.method}", {"allow": takes})
        return route
