"""Connections that a trusted proxy passes on: whom they are from, told by the PROXY protocol. Knows no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from umbel.runtime.transports.http.forwarded import TrustedProxies, plain
from umbel.runtime.transports.http.proxy_header import read_header

__all__ = ["behind"]

HEADER = 10.0  # seconds that a proxy has for its first bytes


def behind(base: Any, trusted: TrustedProxies) -> Any:
    """The protocol class `base` for connections of which some come from trusted proxies.

    Its `sender` is the client's address, and `shared` whether that is a proxy's own, which passes on many clients' requests.
    """
    if not trusted:
        return base

    class Behind(base):  # type: ignore[misc]  # whatever HTTP implementation there is
        _first: bytes | None = None  # what has come, while that may be a part of a header
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            peer = transport.get_extra_info("peername")
            host = plain(peer[0]) if peer else ""
            self.sender, self.shared = host, trusted.has(host)
            session = transport.get_extra_info("ssl_object")
            if session is not None:  # below TLS, the header has been read before the handshake
                told: str | None = getattr(session, "told", None)
                if told is not None and not self.shared:
                    transport.abort()  # nobody who may say so
                self._named(told or "")
                super().connection_made(transport)
            elif self.shared:
                self._first, self._transport = b"", transport
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
                self._named(address)
                rest = self._begin()[size:]
                if rest:
                    super().data_received(rest)

        def eof_received(self) -> bool | None:
            if self._first is None:
                ended: bool | None = super().eof_received()
                return ended
            return None

        def connection_lost(self, error: Exception | None) -> None:
            if self._late is not None:
                self._late.cancel()
            if self._first is None:
                super().connection_lost(error)

        def _named(self, address: str) -> None:
            if address:
                self.sender, self.shared = plain(address), trusted.has(address)

        def _begin(self) -> bytes:
            """Begins what `base` knows as the connection; returns what has come so far."""
            assert self._first is not None
            assert self._late is not None
            first, self._first = self._first, None
            self._late.cancel()
            super().connection_made(self._transport)
            return first

    return Behind
