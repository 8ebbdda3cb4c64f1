"""One connection: bytes in, requests out, and their answers back. Knows HTTP/1.1; knows no routes and no sessions.

Bytes are counted, and refused, before they cost anything (`framing.py`). httptools parses them; a message becomes a
`Request` once its head is complete, and its body is handed on as it comes. Messages that come before the one ahead of them
is answered wait: a few of them parsed, the rest as bytes, and then nothing more is read.

A general server and its messages to the application (ASGI) took a third of the server's time for a small request, and two
packets for each answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import NoReturn
from urllib.parse import unquote

import httptools

from umbel.runtime.transports.http.bell import Bell
from umbel.runtime.transports.http.body import Body
from umbel.runtime.transports.http.connections import Connection, Connections, Peer
from umbel.runtime.transports.http.framing import MAX_AHEAD, Framing, Overdrawn
from umbel.runtime.transports.http.requests import Application, Request, Response

__all__ = ["Intake"]

_logger = logging.getLogger("umbel.http")
_logger.setLevel(logging.ERROR)  # what strangers send is said where it is refused; what breaks here is said here
LINGER = 0.2  # seconds in which the peer of a refused connection can read why
TOGETHER = 2**16  # bytes of a body that go with the head, in one packet or two
AHEAD = 2**16  # bytes of a body that come before somebody wants them
ANSWERED = 3600.0  # seconds: how long a peer may take to read is not for here to say
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BROKEN = Response(500, {"content-type": "text/plain; charset=utf-8", "connection": "close"}, b"Internal Server Error")


class _Exchange:
    """A request, and how far its answer is. `lasts`: another may follow on the connection."""

    __slots__ = ("answered", "answering", "lasts", "request", "task")

    def __init__(self, request: Request, *, lasts: bool) -> None:
        self.request = request
        self.lasts = lasts
        self.answering = self.answered = False
        self.task: asyncio.Task[None] | None = None  # the event loop would forget it


class Intake(asyncio.Protocol):
    """Speaks HTTP with one peer. `app` makes the response to a request; `open_ones` has every connection of the listener.

    `disconnected(peer, idle)` hears of the end of a connection: so a killed client is seen at once.
    """

    connection: Connection | None = None
    sender, shared = "", False  # where a trusted proxy may stand between: see behind.py

    def __init__(
        self,
        app: Application,
        connections: Connections,
        disconnected: Callable[[Peer, bool], None],
        open_ones: set[Intake],
    ) -> None:
        self._app, self._connections, self._disconnected, self._open_ones = app, connections, disconnected, open_ones
        self._parser = httptools.HttpRequestParser(self)
        # What comes after the last request is not looked at, and does not keep that from being answered.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._framing = Framing()
        self._held = b""  # what has come while enough requests were waiting
        self._overdrawn = ""  # why: an error would keep the frames that have the bytes
        self._rests = self._refused = self._ends = False
        self._paused = False  # reading
        self._writable: Bell | None = None  # where the peer does not read what is written
        self._now: _Exchange | None = None  # which is being answered,
        self._queue: deque[_Exchange] = deque()  # those that wait for that,
        self._coming: _Exchange | None = None  # and the one whose body comes
        self._url, self._fields = b"", list[tuple[bytes, bytes]]()
        self._expects = False  # the body comes once it is asked for

    # ---- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's is one
        self._transport, self._loop = transport, asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        if peer is None:  # it has gone already
            transport.abort()
            return
        self._open_ones.add(self)
        self.connection = Connection((str(peer[0]), int(peer[1])), transport, self.sender, shared=self.shared)
        seconds = self._connections.opened(self.connection)
        if seconds:
            self._rest(seconds)

    def connection_lost(self, error: Exception | None) -> None:
        self._open_ones.discard(self)
        self._release()
        self._break_off()
        self._queue.clear()
        self._coming = None  # its body knows this object: with TLS 256 KiB would wait for the collector of cycles
        self.resume_writing()
        if self.connection is not None:
            self._connections.closed(self.connection.peer)
            self._disconnected(self.connection.peer, not self.connection.requests)
        del self._parser  # it knows this object, too

    def end(self) -> None:
        """Closes the connection, once the request under way is answered."""
        self._ends = True
        if self._now is None:
            self._transport.close()

    # ---- bytes

    def data_received(self, data: bytes) -> None:
        if self._refused or self.connection is None:
            return
        seconds = self._connections.received(self.connection, len(data))
        if seconds:
            self._rest(seconds)
        if self._held or self._rests:
            if not self._connections.keep(len(data)):
                self._transport.abort()
                return
            self._held += data
            self._paused = False  # uvloop reads once more, or begins to, whatever it was told
            self._pause()
        else:
            self._parse(memoryview(data))

    def _parse(self, data: memoryview) -> None:
        """Has all of it parsed, as long as not too many requests wait for their turn."""
        try:
            while data:
                size = self._framing.piece(len(data))
                piece, data = data[:size], data[size:]
                self._feed(piece)
                if self._refused or self._transport.is_closing():
                    return
                if len(self._queue) >= MAX_AHEAD:
                    if not self._connections.keep(len(data)):
                        self._refuse(f"more than {MAX_AHEAD} requests before the first one was answered")
                        return
                    self._held = bytes(data)
                    self._pause()
                    return
            self._framing.piece(0)
        except Overdrawn as error:
            self._overdrawn = str(error)
            self._refuse(self._overdrawn)

    def _feed(self, piece: memoryview) -> None:
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._overdrawn or "bytes that are no HTTP request")

    def _parse_on(self) -> None:
        ends = self._refused or self._transport.is_closing()
        if self._held and not ends and not self._rests and len(self._queue) < MAX_AHEAD:
            self._parse(memoryview(self._release()))
            if not self._held and not self._queue:
                self._resume()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        self._connections.keep(-len(held))
        return held

    def _rest(self, seconds: float) -> None:
        """Reads nothing for so long."""
        self._rests = True
        self._pause()
        self._loop.call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        self._rests = False
        if not self._transport.is_closing():
            self._resume()
        self._parse_on()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # ---- what the parser finds; what is raised here it keeps to itself: it says only that it was stopped

    def on_message_begin(self) -> None:
        self._framing.begins()
        self._url, self._fields, self._expects = b"", [], False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        try:
            self._framing.field()
        except Overdrawn as error:
            self._stop_parsing(str(error))
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():  # what follows would be no HTTP
            self._stop_parsing("a request for another protocol than HTTP/1.1")
        length = next((value for name, value in self._fields if name == b"content-length"), b"0")
        self._framing.head_ends(int(length) if length.isdigit() and len(length) < 16 else 0)
        connection = self.connection
        assert connection is not None
        request = Request(
            parser.get_method().decode("ascii"),
            *_paths(self._url),
            self._fields,
            Body(self._ask_on),
            peer=connection.peer,
            target="" if self._url.startswith(b"/") else self._url[:200].decode("ascii", "replace"),
        )
        lasts = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        self._coming = exchange = _Exchange(request, lasts=lasts)
        if self._now is None:
            self._begin(exchange)
        else:
            self._pause()
            self._queue.append(exchange)

    def on_body(self, data: bytes) -> None:
        self._framing.body(len(data))
        exchange = self._coming
        if exchange is not None and not exchange.answered:  # else its handler has ended
            self._expects = False
            exchange.request.body.feed(data)
            if exchange.request.body.size > AHEAD:
                self._pause()

    def on_message_complete(self) -> None:
        exchange, self._coming, self._expects = self._coming, None, False
        if exchange is not None:
            exchange.request.body.end()

    def _stop_parsing(self, why: str) -> NoReturn:
        self._overdrawn = why
        raise Overdrawn(why)

    def _ask_on(self) -> None:
        """Somebody waits for what comes next of the body."""
        if self._expects and not self._transport.is_closing():
            self._expects = False
            self._transport.write(_CONTINUE)
        if not self._rests:
            self._resume()

    # ---- answers

    def _begin(self, exchange: _Exchange) -> None:
        self._now = exchange
        exchange.task = self._loop.create_task(self._answer(exchange))

    async def _answer(self, exchange: _Exchange) -> None:
        request = exchange.request
        request.connection = self._connections.begin(request.peer)
        try:
            await self._send(exchange, await self._app(request))
        except Exception:
            _logger.exception("%s %s cannot be answered", request.method, request.path[:80])
            if exchange.answering:
                self._transport.close()
            else:
                exchange.lasts = False
                await self._send(exchange, _BROKEN)
        finally:
            if request.connection is not None:
                self._connections.end(request.connection)
        self._go_on(exchange)

    async def _send(self, exchange: _Exchange, response: Response) -> None:
        """Sends a response. Makes the next block of a body only while the connection lasts, and its peer reads."""
        request, body = exchange.request, response.body
        await self._wait_until_writable()
        if request.body.broken:
            return
        exchange.answering = True
        lasts = exchange.lasts and not self._ends
        head = response.head(lasts=lasts)
        if isinstance(body, bytes):
            written = b"" if request.method == "HEAD" else body
            if len(written) <= TOGETHER:
                self._transport.write(head + written)
            else:
                self._transport.write(head)
                self._transport.write(written)
        else:
            self._transport.write(head)
            async with aclosing(body):
                while request.method != "HEAD" and not (self._transport.is_closing() or request.body.broken):
                    block = await anext(body, None)
                    if block is None:
                        break
                    self._transport.write(block)
                    await self._wait_until_writable()
        exchange.answered = True
        if not lasts:
            self._transport.close()

    async def _wait_until_writable(self) -> None:
        while self._writable is not None:
            await self._writable.wait(ANSWERED)

    def pause_writing(self) -> None:
        self._writable = Bell()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.ring()

    def _go_on(self, exchange: _Exchange) -> None:
        """An exchange is over: the next one, or what has come meanwhile."""
        exchange.answered = True
        self._now = None
        if self._refused or self._transport.is_closing():
            return
        if self._queue:
            self._begin(self._queue.popleft())
        if self._held:
            self._pause()
            self._loop.call_soon(self._parse_on)
        elif not self._queue and not self._rests:
            self._resume()

    def _break_off(self) -> None:
        """Breaks off the bodies of all requests: nothing more comes of them, and their answers go nowhere."""
        for exchange in (*self._queue, *filter(None, (self._now, self._coming))):
            exchange.request.body.break_off()

    def _refuse(self, why: str) -> None:
        self._connections.refused(self.connection, why)
        self._refused = True
        now = self._now
        self._break_off()  # whoever handles the message says nothing more
        if now is not None and now.answering and not now.answered:
            self._transport.abort()  # an answer is on its way, into which nothing else can be written
            return
        text = f"{why}\n".encode()
        head = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(text) + text)
        # Not `close`: that would read, and with TLS decrypt, whatever else its peer has to send.
        self._pause()
        self._loop.call_later(LINGER, self._transport.abort)


def _paths(url: bytes) -> tuple[str, bytes]:
    """The path that a request is for, in words and as it came."""
    raw = url if url[:1] == b"/" and b"?" not in url and b"#" not in url else httptools.parse_url(url).path
    path = raw.decode("ascii")
    return (unquote(path) if "%" in path else path), raw
