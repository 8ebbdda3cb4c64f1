"""A client's connection to its server: one call per request of the protocol. Knows no tasks' meaning and no retries.

Every call raises `Unreachable` where no answer of the server's came, `Unknown` where the server does not know the session,
`RequestRefused` where it will not have this request, and `ServerRefused` where it will not have this client. What somebody
on the way answers is told apart (`answers.py`), and makes messages smaller where they are too large for it (`sizes.py`).
"""

from __future__ import annotations

import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import urllib3
from urllib3.exceptions import HTTPError

from umbel.errors import ServerRefused, UmbelError, WireError
from umbel.params import Params
from umbel.runtime.failpoints import failpoint
from umbel.runtime.log import logger
from umbel.runtime.security.identity import Identity
from umbel.runtime.security.tls import why_tls_failed
from umbel.runtime.transports.http.address import parse_target
from umbel.runtime.transports.http.answers import describe, is_the_servers, passes
from umbel.runtime.transports.http.by_urllib3 import ByUrllib3
from umbel.runtime.transports.http.direct import Direct, NotConnected
from umbel.runtime.transports.http.forward import forward_for
from umbel.runtime.transports.http.protocol import (
    FOLLOW,
    GO,
    POLL,
    SESSION,
    VERSION,
    Commit,
    ContentHead,
    Next,
    Offer,
    Outcome,
    Poll,
    Problem,
    Register,
    Registered,
    decode,
    encode,
)
from umbel.runtime.transports.http.sizes import LEAST, Sizes
from umbel.runtime.transports.http.way import Response, Waits, Way
from umbel.wire import know

__all__ = ["Foreign", "Link", "RequestRefused", "TooLarge", "Unknown", "Unreachable", "whole"]

BLOCK = 2**18  # bytes that are read at a time, and lost where the connection breaks among them
SLICE = 2**16  # bytes that are sent at a time: each has CONNECT seconds, so a link may be as slow as 13 kB/s
CONNECT = 5.0
DECISION = 25.0 + FOLLOW  # seconds that the server may keep the answer to a reply
OVERDUE = 30.0  # seconds that an answer may be late, where the client's patience is longer
HURRY = 1.0  # seconds that a server has for an answer, however short the client's patience is
FAREWELL = 2.0  # seconds that saying goodbye may take: a server that hangs must not hold a client that leaves
_T = TypeVar("_T")


class Unreachable(UmbelError, ConnectionError):
    """No answer came; it may be better in a moment. `waited`: seconds in which one would have come."""

    waited = 0.0


class Foreign(Unreachable):
    """Somebody on the way has answered. `lasting`: in a way that does not end by itself, as a wrong address would."""

    def __init__(self, why: str, *, lasting: bool) -> None:
        super().__init__(why)
        self.lasting = lasting


class TooLarge(UmbelError):
    """Somebody on the way takes only smaller messages; from now on they are."""


class Unknown(UmbelError):
    """The server does not know the session: it has been restarted."""


class RequestRefused(UmbelError):
    """The server will not have this request; asking again changes nothing."""


class Link:
    """One server, one client name. Safe to use from two threads. `patience` tells how many seconds are left of it.

    Raises `ValueError` where the environment names a proxy that is none.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        *,
        tls: ssl.SSLContext | None = None,
        identity: Identity | None = None,
        patience: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._url = base_url
        target = parse_target(base_url)
        self._authority = target.authority
        self.name = client_id
        self._identity = identity
        self.signs = False  # the server has asked for it
        self._session = ""
        self.run = ""
        self._sizes = Sizes()
        self._patience = patience
        self._forward = forward_for(target.scheme, target.host, target.port)
        if self._forward is not None:
            logger.info("Through %s to %s", self._forward.shown, self._authority)
        if self._forward is not None or target.scheme == "https":
            self._way: Way = ByUrllib3(base_url, tls=tls, forward=self._forward)
        else:
            self._way = Direct(target.host, target.port, self._authority)
        self._target = target.path if self._forward is None else base_url

    @property
    def fits(self) -> int:
        """The most bytes of a message that goes through, as far as is known."""
        return self._sizes.most

    def register(self) -> None:
        self.signs, self._session = False, ""
        message = Register(VERSION, self.name)
        if self._identity is not None:
            message.key, message.token = self._identity.public, self._identity.token
        body, path = encode(message), "/v1/register"
        response = self._raw("POST", path, body)
        if response.status == 401:  # it wants to know who this is
            challenge = re.search(r';nonce="([^"]+)"', response.headers.get("accept-signature", ""))
            if self._identity is None or challenge is None:
                raise ServerRefused(_why(response))
            response = self._raw("POST", path, body, self._identity.join("POST", path, body, challenge[1]))
            if response.status == 401:
                raise Unreachable(_why(response))  # it took too long to answer
            self.signs = True
        try:
            answer = self._decode(self._answer(response), Registered)
        except RequestRefused as error:  # what is wrong with this request is wrong with the client
            raise ServerRefused(str(error)) from None
        if self.run and answer.run != self.run:
            logger.warning("The server at %s is at another run now: %s, no longer %s", self._authority, answer.run, self.run)
        self._session, self.run = answer.session, answer.run

    def next(self, have: Iterable[str]) -> Next:
        return self._post("/v1/next", encode(Poll(list(have))), Next, due=POLL)

    def offer(self, task: str, offer: Offer) -> Outcome:
        """Makes an offer; one that does not go through as a whole goes in pieces, which a last, small one completes."""
        body, path = encode(offer), f"/v1/tasks/{task}/reply"
        if len(body) <= self.fits:
            return self._post(path, body, Outcome, due=DECISION)
        sent = 0
        while sent < len(body):
            piece = body[sent : sent + self.fits]
            outcome = self._request("PUT", f"/v1/tasks/{task}/offer/{sent}", piece, Outcome)
            if outcome.verdict != GO:
                return outcome
            if outcome.offset != sent + len(piece):
                raise Unreachable(outcome.why or "the offer has to be made again")
            sent = outcome.offset
        last = Offer(pieces=len(body), crc32=zlib.crc32(body), have=offer.have)
        return self._post(path, encode(last), Outcome, due=DECISION)

    def send(self, task: str, offset: int, size: int, views: Iterable[memoryview]) -> Outcome:
        """Sends `size` bytes of data, from `offset` on."""
        headers = {"content-length": str(size)}
        return self._request("PUT", f"/v1/tasks/{task}/data/{offset}", _slices(views), Outcome, headers)

    def commit(self, task: str, crc32: int, blake3: bytes) -> Outcome:
        return self._post(f"/v1/tasks/{task}/commit", encode(Commit(crc32, blake3)), Outcome, due=DECISION)

    def leave(self) -> None:
        if not self._session:
            return
        self._answer(self._raw("POST", "/v1/leave", b"", timeout=Waits(FAREWELL, FAREWELL)))

    def fetch(self, head: ContentHead, into: npt.NDArray[np.uint8], received: int) -> int:
        """Fills `into` from byte `received` on; returns how far it came. Raises `WireError` if the server is damaged."""
        if head.data is not None:
            into[:] = np.frombuffer(head.data, np.uint8)
            return head.size
        response = self._raw("GET", f"/v1/contents/{head.name}", None, {"range": f"bytes={received}-"}, stream=True)
        if response.status >= 300 or not is_the_servers(response.headers, response.status):
            try:
                response.data  # noqa: B018  # reads it
            except (HTTPError, OSError) as error:
                raise self._unreachable(error, 0) from None
            self._answer(response)
        if response.headers.get("content-range", "").partition("-")[0] != f"bytes {received}":
            response.close()
            raise Foreign(f"{self._who()} does not pass on which part of the model is asked for", lasting=False)
        view = into.data
        try:
            while received < head.size:
                got = response.readinto(view[received : received + BLOCK])
                if not got:
                    break
                received += got
                failpoint("client.downloading")
        except (HTTPError, OSError, ValueError):
            pass  # the caller sees how far it came, and goes on from there
        finally:
            response.release_conn()
        return received

    def close(self) -> None:
        self._way.clear()

    def _post(self, path: str, body: bytes, type_: type[_T], *, due: float = 0.0) -> _T:
        return self._request("POST", path, body, type_, due=due)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[memoryview],
        type_: type[_T],
        headers: dict[str, str] | None = None,
        *,
        due: float = 0.0,
    ) -> _T:
        return self._decode(self._answer(self._raw(method, path, body, headers, due=due)), type_)

    def _decode(self, answer: bytes, type_: type[_T]) -> _T:
        try:
            return decode(answer, type_)
        except WireError as error:
            raise ServerRefused(f"{self._url} does not answer like an Umbel server: {error}") from None

    def _raw(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[memoryview] | None,
        headers: dict[str, str] | None = None,
        *,
        stream: bool = False,
        due: float = 0.0,
        timeout: Waits | None = None,
    ) -> Response:
        """The response to a request, which the server may keep open for `due` seconds."""
        # Spelled as urllib3 spells it, which would add another beside it for a proxy.
        mine = {SESSION: self._session, "content-type": "application/msgpack", "Accept": "application/msgpack"}
        headers = {**mine, **(headers or {})}
        size = len(body) if isinstance(body, bytes) else int(headers.get("content-length", 0))
        if self.signs and self._identity is not None and self._session:
            if body is not None and not isinstance(body, bytes):
                body = list(body)  # read twice
            parts = [body] if isinstance(body, bytes) else body
            headers |= self._identity.sign(method, path, self._session, body=parts, range_=headers.get("range"))
        if size > SLICE and isinstance(body, bytes):
            headers["content-length"] = str(size)
            body = _slices([memoryview(body)])
        began = time.monotonic()
        try:
            waits = timeout or self._timeout(due)
            response = self._way.send(method, self._target + path, body=body, headers=headers, timeout=waits)
            if not stream:
                response.data  # noqa: B018  # reads it: the connection is free for the next request
        except (HTTPError, OSError) as error:
            unreachable = self._unreachable(error, size)
            # not for whoever keeps this thread from running
            if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)):
                unreachable.waited = min(max(time.monotonic() - began - due, 0.0), OVERDUE)
            raise unreachable from None
        if response.status == 413 and not is_the_servers(response.headers, 413):
            if self._sizes.refused(size):
                why = f"{self._who()} takes no messages of {size:,} bytes"
                logger.info("%s: they have at most %s from now on", why, f"{self.fits:,}")
                raise TooLarge(why)
            raise RequestRefused(
                f"{self._who()} refuses messages of {size:,} bytes with 413, and Umbel needs {LEAST:,}; have its limit "
                "raised (nginx: client_max_body_size 16m)"
            )
        self._sizes.passed(size)
        return response

    def _timeout(self, due: float) -> Waits:
        left = self._patience()
        late = OVERDUE if left is None else min(max(left, HURRY), OVERDUE)
        return Waits(min(CONNECT, late), due + late)

    def _unreachable(self, error: Exception, size: int) -> Unreachable:
        """What it means that no response came. Raises `ServerRefused` where trying again is no use."""
        in_between = None if self._forward is None else self._forward.why_not(error)
        if in_between is not None:
            why, lasting = in_between
            return Foreign(why, lasting=lasting)
        cause = _tls_cause(error)  # in TLS 1.3, the server refuses a certificate after the handshake
        if cause is not None:
            why = f"TLS with {self._url} failed: {why_tls_failed(cause, server=False)}"
            if self.run:  # it has come about before: a portal is in the way, or a certificate is being renewed
                return Foreign(why, lasting=True)
            raise ServerRefused(why) from None
        connected = not isinstance(error, (urllib3.exceptions.NewConnectionError, NotConnected, socket.gaierror))
        if connected and self._sizes.cut(size):
            logger.info("The connection breaks again and again: at most %s bytes at once from now on", f"{self.fits:,}")
        return Unreachable(_reason(error))

    def _answer(self, response: Response) -> bytes:
        if not is_the_servers(response.headers, response.status) and response.status != 426:
            raise self._foreign(response)
        if response.status < 400:
            return response.data
        why = _why(response)
        if response.status == 401:
            raise Unknown(why)
        if response.status in (408, 422, 425, 429, 500, 502, 503, 504):
            raise Unreachable(why)
        if response.status == 421 and self._forward is not None:
            raise ServerRefused(f"{self._forward.shown} is an Umbel server itself; {self._forward.way_out}")
        if response.status in (403, 409, 426):
            raise ServerRefused(why)
        raise RequestRefused(why)

    def _foreign(self, response: Response) -> Foreign:
        status = response.status
        said = describe(status, response.headers, response.data[:20_000])
        lasting = not passes(status)
        if 300 <= status < 400 and response.headers.get("location", "").startswith("http"):
            return Foreign(f"{self._who()} {said}; give that, without /v1/..., as server_address=", lasting=lasting)
        if self._forward is None:
            ask = f"is {self._url} the address of an Umbel server?" if lasting else "is the Umbel server behind it running?"
            return Foreign(f"{self._who()} {said}; {ask}", lasting=lasting)
        if status in (401, 403, 407):
            return Foreign(self._forward.why_refused(status, said), lasting=True)
        return Foreign(f"{self._who()} {said} in place of {self._authority}; {self._forward.way_out}", lasting=lasting)

    def _who(self) -> str:
        """Whoever stands between here and the server."""
        return f"an intermediary at {self._authority}" if self._forward is None else self._forward.shown


def _slices(views: Iterable[memoryview]) -> Iterator[memoryview]:
    for view in views:
        for start in range(0, len(view), SLICE):
            yield view[start : start + SLICE]


def whole(head: ContentHead, data: npt.NDArray[np.uint8]) -> Params:
    """The parameters in a fetched content. Raises `WireError` where it was damaged on its way."""
    if zlib.crc32(data.data) != head.crc32:
        raise WireError(f"the content {head.name} was damaged on its way")
    params = Params.from_bytes(data.data)
    know(params.schema)  # the next has the same: 0.1 ms of a small task
    return params


def _why(response: Response) -> str:
    """The reason of a refusal."""
    try:
        return decode(response.data, Problem).why
    except WireError:
        plain = response.headers.get("content-type", "").startswith("text/plain")  # of bytes that were not even a request
        said = f": {response.data[:500].decode(errors='replace').strip()}" if plain else ""
        return f"status {response.status}{said}"


def _tls_cause(error: BaseException) -> ssl.SSLError | None:
    """OpenSSL's error in what urllib3 has wrapped it in; None where the connection merely ended."""
    seen = error
    while True:
        inner = next((part for part in seen.args if isinstance(part, BaseException)), None)
        if isinstance(seen, ssl.SSLError):
            return None if isinstance(seen, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) else seen
        if inner is None:
            return None
        seen = inner


def _reason(error: Exception) -> str:
    match error:
        case urllib3.exceptions.NameResolutionError() | socket.gaierror():
            return "its name cannot be resolved"
        case urllib3.exceptions.NewConnectionError() | NotConnected():
            return "connection refused"
        case urllib3.exceptions.TimeoutError() | TimeoutError():
            return "no answer in time"
        case _:
            return "the connection broke"
