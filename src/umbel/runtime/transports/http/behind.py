"""Connections that a trusted proxy passes on: whom they are from, told by the PROXY protocol. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from umbel.runtime.transports.http.connections import Connections, Peer
from umbel.runtime.transports.http.forwarded import TrustedProxies, plain
from umbel.runtime.transports.http.intake import Intake
from umbel.runtime.transports.http.proxy_header import read_header
from umbel.runtime.transports.http.requests import Application

__all__ = ["Behind"]

HEADER = 10.0  # seconds that a proxy has for its first bytes


class Behind(Intake):
    """A connection that may come from a trusted proxy.

    Its `sender` is the client's address, and `shared` whether that is a proxy's own, which passes on many clients' requests.
    """

    def __init__(
        self,
        trusted: TrustedProxies,
        app: Application,
        connections: Connections,
        disconnected: Callable[[Peer, bool], None],
        open_ones: set[Intake],
    ) -> None:
        super().__init__(app, connections, disconnected, open_ones)
        self._trusted = trusted
        self._first: bytes | None = None  # what has come, while that may be a part of a header
        self._proxy: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's is one
        peer = transport.get_extra_info("peername")
        host = plain(peer[0]) if peer else ""
        self.sender, self.shared = host, self._trusted.has(host)
        session = transport.get_extra_info("ssl_object")
        if session is not None:  # below TLS, the header has been read before the handshake
            told: str | None = getattr(session, "told", None)
            if told is not None and not self.shared:
                transport.abort()  # nobody who may say so
            self._name(told or "")
            super().connection_made(transport)
        elif self.shared:
            self._first, self._proxy = b"", transport
            self._late = asyncio.get_running_loop().call_later(HEADER, transport.abort)
        else:
            super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._first is None:
            super().data_received(data)
            return
        self._first += data
        found = read_header(self._first)
        if found is not None:
            size, address = found
            self._name(address)
            rest = self._end_header()[size:]
            if rest:
                super().data_received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._first is None:
            super().connection_lost(error)

    def _name(self, address: str) -> None:
        if address:
            self.sender, self.shared = plain(address), self._trusted.has(address)

    def _end_header(self) -> bytes:
        """Begins what is HTTP of the connection; returns what has come so far."""
        assert self._first is not None
        assert self._late is not None
        assert self._proxy is not None
        first, self._first = self._first, None
        self._late.cancel()
        super().connection_made(self._proxy)
        return first
