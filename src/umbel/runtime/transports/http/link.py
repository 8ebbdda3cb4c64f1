"""A client's connection to its server: one call per request of the protocol. Knows no tasks' meaning and no retries.

Every call raises `Unreachable` where no answer came, `Unknown` where the server does not know the session, `RequestRefused`
where it will not have this request, and `ServerRefused` where it will not have this client.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import urllib3
from urllib3.exceptions import HTTPError

from umbel.errors import ServerRefused, UmbelError, WireError
from umbel.params import Params
from umbel.runtime.failpoints import failpoint
from umbel.runtime.security.identity import Identity
from umbel.runtime.security.tls import why_tls_failed
from umbel.runtime.transports.http.protocol import (
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

__all__ = ["Link", "RequestRefused", "Unknown", "Unreachable", "whole"]

BLOCK = 2**18  # bytes that are read at a time, and lost where the connection breaks among them
FAREWELL = 2.0  # seconds that saying goodbye may take: a server that hangs must not hold a client that leaves
_T = TypeVar("_T")


class Unreachable(UmbelError, ConnectionError):
    """No answer came; it may be better in a moment."""


class Unknown(UmbelError):
    """The server does not know the session: it has been restarted."""


class RequestRefused(UmbelError):
    """The server will not have this request; asking again changes nothing."""


class Link:
    """One server, one client name. Safe to use from two threads."""

    def __init__(
        self, base_url: str, client_id: str, *, tls: ssl.SSLContext | None = None, identity: Identity | None = None
    ) -> None:
        self._url = base_url
        self.name = client_id
        self._identity = identity
        self.signs = False  # the server has asked for it
        self._session = ""
        self.run = ""
        # read: longer than the server keeps a poll, or a decision, open
        self._patience = urllib3.Timeout(connect=5.0, read=POLL + 25.0)
        options = {"retries": False, "maxsize": 4}
        proxy = _proxy_for(base_url)
        self._send: Callable[..., urllib3.BaseHTTPResponse]
        if proxy:
            self._manager: urllib3.PoolManager = urllib3.ProxyManager(proxy, ssl_context=tls, **options)  # type: ignore[arg-type]
            self._send, self._target = self._manager.urlopen, base_url
        else:  # one server is one pool: going through the manager takes a sixth of a small request's time
            self._manager = urllib3.PoolManager(ssl_context=tls, **options)  # type: ignore[arg-type]
            self._send, self._target = self._manager.connection_from_url(base_url).urlopen, ""

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
            answer = self._decoded(self._answer(response), Registered)
        except RequestRefused as error:  # what is wrong with this request is wrong with the client
            raise ServerRefused(str(error)) from None
        self._session, self.run = answer.session, answer.run

    def next(self, have: Iterable[str]) -> Next:
        return self._post("/v1/next", encode(Poll(list(have))), Next)

    def offer(self, task: str, offer: Offer) -> Outcome:
        return self._post(f"/v1/tasks/{task}/reply", encode(offer), Outcome)

    def send(self, task: str, offset: int, size: int, views: Iterable[memoryview]) -> Outcome:
        """Sends `size` bytes of data, from `offset` on."""
        headers = {"content-length": str(size)}
        return self._request("PUT", f"/v1/tasks/{task}/data/{offset}", views, Outcome, headers)

    def commit(self, task: str, crc32: int, blake3: bytes) -> Outcome:
        return self._post(f"/v1/tasks/{task}/commit", encode(Commit(crc32, blake3)), Outcome)

    def leave(self) -> None:
        if not self._session:
            return
        self._answer(self._raw("POST", "/v1/leave", b"", patience=urllib3.Timeout(FAREWELL)))

    def fetch(self, head: ContentHead, into: npt.NDArray[np.uint8], received: int) -> int:
        """Fills `into` from byte `received` on; returns how far it came. Raises `WireError` if the server is damaged."""
        if head.data is not None:
            into[:] = np.frombuffer(head.data, np.uint8)
            return head.size
        response = self._raw("GET", f"/v1/contents/{head.name}", None, {"range": f"bytes={received}-"}, stream=True)
        if response.status >= 400:
            self._answer(response)
        view = into.data
        try:
            while received < head.size:
                block = response.read(BLOCK)
                if not block:
                    break
                view[received : received + len(block)] = block
                received += len(block)
                failpoint("client.downloading")
        except (HTTPError, OSError, ValueError):
            pass  # the caller sees how far it came, and goes on from there
        finally:
            response.release_conn()
        return received

    def close(self) -> None:
        self._manager.clear()

    def _post(self, path: str, body: bytes, type_: type[_T]) -> _T:
        return self._request("POST", path, body, type_)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[memoryview],
        type_: type[_T],
        headers: dict[str, str] | None = None,
    ) -> _T:
        return self._decoded(self._answer(self._raw(method, path, body, headers)), type_)

    def _decoded(self, answer: bytes, type_: type[_T]) -> _T:
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
        patience: urllib3.Timeout | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = {SESSION: self._session, "content-type": "application/msgpack", **(headers or {})}
        if self.signs and self._identity is not None and self._session:
            if body is not None and not isinstance(body, bytes):
                body = list(body)  # read twice
            parts = [body] if isinstance(body, bytes) else body
            headers |= self._identity.sign(method, path, self._session, body=parts, range_=headers.get("range"))
        try:
            return self._send(
                method,
                self._target + path,
                body=body,
                headers=headers,
                timeout=patience or self._patience,
                preload_content=not stream,
                decode_content=False,
                redirect=False,
            )
        except (HTTPError, OSError) as error:
            cause = _tls_cause(error)  # in TLS 1.3, the server refuses a certificate after the handshake
            if cause is not None:
                raise ServerRefused(f"TLS with {self._url} failed: {why_tls_failed(cause, server=False)}") from None
            raise Unreachable(_reason(error)) from None

    def _answer(self, response: urllib3.BaseHTTPResponse) -> bytes:
        if response.status < 400:
            return response.data
        why = _why(response)
        if response.status == 401:
            raise Unknown(why)
        if response.status in (408, 422, 425, 429, 500, 502, 503, 504):
            raise Unreachable(why)
        if response.status in (403, 409, 426):
            raise ServerRefused(why)
        raise RequestRefused(why)


def whole(head: ContentHead, data: npt.NDArray[np.uint8]) -> Params:
    """The parameters in a fetched content. Raises `WireError` where it was damaged on its way."""
    if zlib.crc32(data.data) != head.crc32:
        raise WireError(f"the content {head.name} was damaged on its way")
    return Params.from_bytes(data.data)


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address; never one for loopback."""
    parts = urllib3.util.parse_url(url)
    host = (parts.host or "").strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback or urllib.request.proxy_bypass(f"{host}:{parts.port}"):
        return None
    return urllib.request.getproxies().get(parts.scheme or "http")


def _why(response: urllib3.BaseHTTPResponse) -> str:
    """The reason of a refusal."""
    try:
        return decode(response.data, Problem).why
    except WireError:
        plain = response.headers.get("content-type", "").startswith("text/plain")  # from a proxy, or another port
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
        case urllib3.exceptions.NameResolutionError():
            return "its name cannot be resolved"
        case urllib3.exceptions.NewConnectionError():
            return "connection refused"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time"
        case _:
            return "the connection broke"
