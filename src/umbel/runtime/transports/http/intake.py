"""The bytes of a connection on their way into uvicorn, counted and refused before they cost anything. Knows no requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from umbel.runtime.transports.http.connections import Connection, Connections, Peer
from umbel.runtime.transports.http.framing import MAX_AHEAD, Framing, Overdrawn

__all__ = ["intake"]

_logger = logging.getLogger("umbel.http")
_logger.setLevel(logging.ERROR)  # what strangers send is said where it is refused; what breaks here is said here
LINGER = 0.2  # seconds in which the peer of a refused connection can read why


def intake(connections: Connections, disconnected: Callable[[Peer, bool], None]) -> type[asyncio.Protocol]:
    """uvicorn's protocol class, telling of connections and of their bytes: so a killed client is seen at once."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:  # no httptools on this platform: h11 holds no more of a head, or of trailers, than 64 KiB
        from uvicorn.protocols.http.h11_impl import H11Protocol

        h11: type[asyncio.Protocol] = _told(H11Protocol, connections, disconnected)
        return h11
    return _counted(_told(HttpToolsProtocol, connections, disconnected), connections)


def _told(base: Any, connections: Connections, disconnected: Callable[[Peer, bool], None]) -> Any:
    """Tells of the connection's beginning and end, and of its bytes."""

    class Told(base):  # type: ignore[misc]  # one of two classes
        connection: Connection | None = None
        sender, shared = "", False  # where a trusted proxy may stand between: see behind.py

        def connection_made(self, transport: asyncio.Transport) -> None:
            self.logger = _logger
            super().connection_made(transport)
            if self.client is None:  # it has gone already
                transport.abort()
                return
            self.connection = Connection(self.client, transport, self.sender, shared=self.shared)
            seconds = connections.opened(self.connection)
            if seconds:
                self._rest(seconds)

        def _rest(self, seconds: float) -> None:
            """Reads nothing for so long."""
            self.flow.pause_reading()
            self.loop.call_later(seconds, self._read_on)

        def _read_on(self) -> None:
            if not self.transport.is_closing():
                self.flow.resume_reading()

        def data_received(self, data: bytes) -> None:
            if self.connection is not None:
                seconds = connections.received(self.connection, len(data))
                if seconds:
                    self._rest(seconds)
            super().data_received(data)

        def send_400_response(self, msg: str) -> None:
            connections.refused(self.connection, "bytes that are no HTTP request")
            super().send_400_response(msg)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.connection is not None:
                connections.closed(self.connection.peer)
                disconnected(self.connection.peer, not self.connection.requests)

    return Told


def _counted(base: Any, connections: Connections) -> type[asyncio.Protocol]:
    """Gives the parser what has come in pieces, and refuses the connection where the count of `Framing` is overdrawn."""

    class Counted(base):  # type: ignore[misc]  # made above
        connection: Connection | None

        def connection_made(self, transport: asyncio.Transport) -> None:
            self._framing = Framing()
            self._held = b""  # what has come while enough requests were waiting
            self._overdrawn = ""  # why: an error would keep the frames that have the bytes
            self._rests = self._refused = False
            super().connection_made(transport)

        def _rest(self, seconds: float) -> None:
            self._rests = True  # uvloop reads once more, or begins to, whatever it was told
            super()._rest(seconds)

        def _read_on(self) -> None:
            self._rests = False
            super()._read_on()
            self._parse_on()

        def data_received(self, data: bytes) -> None:
            if self._refused:
                return
            if self._held or self._rests:
                if not connections.keep(len(data)):
                    self.transport.abort()
                    return
                self._held += data
                self.flow.read_paused = False
                self.flow.pause_reading()
            else:
                self._parse(memoryview(data))

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._held:
                self.flow.pause_reading()
                self.loop.call_soon(self._parse_on)

        def _parse_on(self) -> None:
            ends = self._refused or self.transport.is_closing()
            if self._held and not ends and not self._rests and len(self.pipeline) < MAX_AHEAD:
                self._parse(memoryview(self._release()))
                if not self._held and not self.pipeline:
                    self.flow.resume_reading()

        def _release(self) -> bytes:
            held, self._held = self._held, b""
            connections.keep(-len(held))
            return held

        def connection_lost(self, exc: Exception | None) -> None:
            self._release()
            super().connection_lost(exc)

        def _parse(self, data: memoryview) -> None:
            """Has all of it parsed, as long as not too many requests wait for their turn."""
            try:
                while data:
                    size = self._framing.piece(len(data))
                    piece, data = data[:size], data[size:]
                    super().data_received(piece)
                    if self._refused or self.transport.is_closing():
                        return
                    if len(self.pipeline) >= MAX_AHEAD:
                        if not connections.keep(len(data)):
                            self._refuse(f"more than {MAX_AHEAD} requests before the first one was answered")
                            return
                        self._held = bytes(data)
                        self.flow.pause_reading()
                        return
                self._framing.piece(0)
            except Overdrawn as error:
                self._overdrawn = str(error)
                self._refuse(self._overdrawn)

        # What a callback of the parser raises, the parser keeps to itself: it says only that it was stopped.

        def on_message_begin(self) -> None:
            self._framing.begins()
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            self._checked(self._framing.field)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self.parser.should_upgrade():  # what follows would be no HTTP
                self._checked(_no_upgrade)
            length = next((value for name, value in self.headers if name == b"content-length"), b"0")
            self._framing.head_ends(int(length) if length.isdigit() and len(length) < 16 else 0)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._framing.body(len(body))
            # uvicorn appends a chunk to an empty buffer and copies that again: 15 % of the server's time for an upload
            if self.cycle.body or self.cycle.response_complete:
                super().on_body(body)
            else:
                self.cycle.body = body
                super().on_body(b"")

        def send_400_response(self, msg: str) -> None:
            self._refuse(self._overdrawn or "bytes that are no HTTP request")

        def _checked(self, check: Callable[[], None]) -> None:
            try:
                check()
            except Overdrawn as error:
                self._overdrawn = str(error)
                raise

        def _refuse(self, why: str) -> None:
            connections.refused(self.connection, why)
            self._refused = True
            if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
                self.transport.abort()  # an answer is on its way, into which nothing else can be written
                return
            if self.cycle is not None:
                self.cycle.disconnected = True  # whoever handles the message says nothing more
                self.cycle.message_event.set()
            text = f"{why}\n".encode()
            head = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(text) + text)
            # Not `close`: that would read, and with TLS decrypt, whatever else its peer has to send.
            self.flow.pause_reading()
            self.loop.call_later(LINGER, self.transport.abort)

    return Counted


def _no_upgrade() -> None:
    raise Overdrawn("a request for another protocol than HTTP/1.1")
