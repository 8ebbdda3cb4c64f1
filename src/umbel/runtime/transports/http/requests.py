"""A request as its handler sees it, and the answer to it. Knows HTTP's words; knows no sockets and no sessions."""

from __future__ import annotations

import http
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from email.utils import formatdate
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import msgspec

from umbel.runtime.transports.http.body import Body
from umbel.runtime.transports.http.connections import Connection, Peer
from umbel.runtime.transports.http.protocol import Refused, encode
from umbel.wire import short

if TYPE_CHECKING:
    from umbel.runtime.transports.http.buffer import Held
    from umbel.runtime.transports.http.sessions import Present

__all__ = [
    "MAX_SMALL",
    "Application",
    "Handler",
    "Headers",
    "Request",
    "Response",
    "Route",
    "Routes",
    "message",
]

MAX_SMALL = 4096  # bytes of a registration or a commit

class Headers(Mapping[str, str]):
    """A request's fields by their names in small letters; of several with one name the first."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = raw
        self._first: dict[str, str] = {}
        for name, value in raw:
            self._first.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __contains__(self, name: object) -> bool:
        return name in self._first

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
        *("body", "client", "connection", "digest", "headers", "held", "method", "parameters", "path", "peer", "raw_path"),
        "target",
    )

    def __init__(
        self,
        method: str,
        path: str,
        raw_path: bytes,
        fields: Iterable[tuple[bytes, bytes]],
        body: Body,
        *,
        peer: Peer,
        target: str = "",
        connection: Connection | None = None,
    ) -> None:
        self.method, self.path, self.raw_path = method, path, raw_path
        self.headers = Headers(fields)
        self.body = body
        self.peer = peer
        start = raw_path.rfind(b"/v1/")
        if start > 0:
            self.raw_path = raw_path[start:]
            self.path = unquote(self.raw_path.decode("ascii", "replace"))
        self.target = target  # the URL that this request is to be passed on to, by a proxy; "" where it is for this server
        self.connection = connection
        self.parameters: Mapping[str, str] = {}  # what its path says
        self.client: Present | None = None
        self.digest: bytes | None = None
        self.held: Held | None = None

    @property
    def length(self) -> int:
        """The body's length as its sender says it; more than any limit where it says none that can be."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 2**62


class Response(NamedTuple):
    """An answer: a body as a whole, or one that is made while it is sent, with its length among the `headers`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncGenerator[bytes, None] = b""

    def head(self, *, lasts: bool) -> bytes:
        """What stands before the body, where the connection `lasts` and where it does not."""
        lines = [_status_line(self.status), f"date: {_date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if isinstance(self.body, bytes) and self.status != 204:
            lines.append(f"content-length: {len(self.body)}")
        if not lasts and "connection" not in self.headers:
            lines.append("connection: close")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("an answer has a line break where none can be")
        return f"{text}\r\n\r\n".encode("latin-1")


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


_MESSAGE = {"cache-control": "no-store", "content-type": "application/msgpack"}


def message(told: msgspec.Struct) -> Response:
    """The answer that is a message of the protocol."""
    return Response(200, _MESSAGE, encode(told))


Handler = Callable[[Request], Awaitable[Response]]
Application = Handler  # the one that stands before all others


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
