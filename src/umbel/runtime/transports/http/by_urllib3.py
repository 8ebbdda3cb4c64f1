"""Requests by urllib3: over TLS, and through a forward proxy. Knows bytes; knows no messages.

`http.client` beneath it sends a head, and then a body: two system calls, two packets, and a server that is woken twice for
one message. So what is sent over TLS waits until a small request is complete.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection

from umbel.runtime.transports.http.forward import Forward
from umbel.runtime.transports.http.way import Body, Response, Waits

__all__ = ["ByUrllib3"]

PIECE = 2**16  # bytes of what is sent in one piece


class ByUrllib3:
    """The way through a proxy, or else directly to the server of an https URL."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None, forward: Forward | None) -> None:
        if forward is not None:
            self._manager: urllib3.PoolManager = urllib3.ProxyManager(
                forward.url, proxy_headers=forward.headers, ssl_context=tls, retries=False, maxsize=4
            )
            self._urlopen: Callable[..., urllib3.BaseHTTPResponse] = self._manager.urlopen
        else:  # one server is one pool: to go through the manager takes a sixth of a small request's time
            self._manager = urllib3.PoolManager(ssl_context=tls, retries=False, maxsize=4)
            pool = self._manager.connection_from_url(url)
            pool.ConnectionCls = _InOnePiece
            self._urlopen = pool.urlopen

    def send(self, method: str, target: str, *, body: Body, headers: Mapping[str, str], timeout: Waits) -> Response:
        return self._urlopen(
            method,
            target,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=timeout.connect, read=timeout.read),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )

    def clear(self) -> None:
        self._manager.clear()


class _InOnePiece(HTTPSConnection):
    """Holds what is sent until the request is complete, or too long."""

    _held: bytearray | None = None

    def request(self, *arguments: Any, **named: Any) -> None:
        self._held = bytearray()
        try:
            super().request(*arguments, **named)
            self._release()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        if self._held is not None and len(self._held) + len(data) <= PIECE:
            self._held += data
        else:
            self._release()
            super().send(data)

    def _release(self) -> None:
        held, self._held = self._held, None  # before it is sent: to connect may send something, too
        if held:
            super().send(held)
