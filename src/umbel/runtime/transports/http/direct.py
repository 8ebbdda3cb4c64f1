"""HTTP/1.1 without TLS and without a proxy between: a request goes out in one piece, an answer is read as it comes.

Knows sockets and HTTP's framing; knows no messages. urllib3 stays for TLS and for proxies, whose words it knows: a small
request costs 228 us of a client's time with it, and 51 us here, where there are no header objects, no parser of e-mail and
no locks of a pool (4 kB each way, the least of 12 times 100).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from urllib.parse import quote

from umbel.runtime.transports.http.way import Body, Waits

__all__ = ["Answer", "Direct", "Malformed", "NotConnected"]

KEPT = 4  # idle connections
PIECE = 2**16  # bytes that are sent, or read, at a time
LONGEST = 2**16  # bytes of a head
_IN_A_TARGET = "/%:@!$&'()*+,;=~-._"
_NO_BODY = {204, 304}


class NotConnected(OSError):
    """No connection came about."""


class Malformed(OSError):
    """What came is no answer in HTTP."""


class Answer:
    """An answer whose head has come. Its headers are by names in small letters; of several with one name the last.

    Of the body, `data` is all, and `readinto` takes the next bytes.
    """

    def __init__(self, connection: _Connection, status: int, headers: Mapping[str, str], *, home: list[_Connection]) -> None:
        self.status, self.headers = status, headers
        self._connection: _Connection | None = connection
        self._home = home  # where the connection goes once all of the answer has been read
        self._data: bytes | None = None
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left: int | None = None  # bytes of the body, or of its chunk; None: as long as it comes
        if status in _NO_BODY:
            self._left, self._chunked = 0, False
        elif self._chunked:
            self._left = 0
        elif length.isascii() and length.isdigit():
            self._left = int(length)
        if self._left == 0 and not self._chunked:
            self.release_conn()

    @property
    def data(self) -> bytes:
        if self._data is None:
            whole = bytearray()
            while self._connection is not None:
                block = memoryview(bytearray(min(self._left or PIECE, PIECE)))
                whole += block[: self.readinto(block)]
            self._data = bytes(whole)
        return self._data

    def readinto(self, out: memoryview) -> int:
        """Fills the beginning of `out` with the next bytes; how many, 0 at the end.

        Raises `OSError` where the connection broke before that.
        """
        if self._connection is None:
            return 0
        try:
            if self._chunked and self._left == 0:
                self._left = self._connection.chunk()
                if not self._left:
                    self._chunked = False
            if self._left == 0:
                self.release_conn()
                return 0
            got = self._connection.readinto(out if self._left is None else out[: self._left])
            if not got and self._left is not None:
                raise Malformed("the connection ended in the middle of an answer")
        except BaseException:
            self.close()
            raise
        if self._left is None:
            if not got:
                self.close()
            return got
        self._left -= got
        if self._chunked and not self._left:
            self._connection.line()  # after each chunk
        elif not self._left:
            self.release_conn()
        return got

    def release_conn(self) -> None:
        """Gives the connection back, for the next request, where all of the answer has been read."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        lasts = self.headers.get("connection", "").lower() != "close" and connection.version == "HTTP/1.1"
        if self._left == 0 and not self._chunked and lasts and len(self._home) < KEPT:
            self._home.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Direct:
    """Connections to one server. Safe to use from several threads."""

    def __init__(self, host: str, port: int, authority: str) -> None:
        self._address = host, port
        self._authority = authority
        self._idle: list[_Connection] = []

    def send(self, method: str, target: str, *, body: Body, headers: Mapping[str, str], timeout: Waits) -> Answer:
        """The answer to a request.

        Raises `socket.gaierror`, `NotConnected`, `TimeoutError`, and other `OSError`s where the connection broke.
        """
        fields = {"host": self._authority, "accept-encoding": "identity", "user-agent": "umbel", **headers}
        if isinstance(body, bytes):
            fields["content-length"] = str(len(body))
        lines = [f"{method} {quote(target, safe=_IN_A_TARGET)} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a request has a line break where none can be")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        connection = self._connection(timeout.connect)
        try:
            # A server that refuses a body may answer, and close, before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(head, body)
            status, found = connection.head(timeout.read)
        except BaseException:
            connection.close()
            raise
        return Answer(connection, status, found, home=self._idle)

    def clear(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _connection(self, timeout: float) -> _Connection:
        """An idle connection that is still open, or a new one."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                connection = self._idle.pop()
                if connection.is_quiet():
                    connection.wait(timeout)
                    return connection
                connection.close()
        try:
            made = socket.create_connection(self._address, timeout)
        except (socket.gaierror, TimeoutError):
            raise
        except UnicodeError as error:
            raise socket.gaierror(f"{self._address[0]!r} is no name of a host") from error
        except OSError as error:
            raise NotConnected(error.errno, error.strerror) from error
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Connection(made)


class _Connection:
    """A socket, and what has come on it and was not read so far."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._rest = b""
        self.version = ""

    def wait(self, timeout: float) -> None:
        """Waits so many seconds at most from now on."""
        self._socket.settimeout(timeout)

    def is_quiet(self) -> bool:
        """Whether the connection is open and nothing has come on it since the last answer."""
        self.wait(0.0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._rest
        except OSError:
            pass
        return False

    def send(self, head: bytes, body: Body) -> None:
        if body is None or isinstance(body, bytes):
            self._socket.sendall(head + body if body else head)  # two pieces are two packets, and wake the server twice
            return
        self._socket.sendall(head)
        for view in body:
            self._socket.sendall(view)

    def head(self, timeout: float) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer that is a final one. Raises `Malformed`."""
        self.wait(timeout)
        while True:
            first, *lines = self._read_to(b"\r\n\r\n").decode("latin-1").split("\r\n")
            self.version, _, status = first.partition(" ")
            if not self.version.startswith("HTTP/1.") or not (status[:3].isascii() and status[:3].isdigit()):
                raise Malformed("what came is no answer in HTTP")
            if status[0] != "1":
                break
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise Malformed("a header without a colon")
            headers[name.lower()] = value.strip()
        return int(status[:3]), headers

    def chunk(self) -> int:
        """The size of the next chunk; 0, and all that follows it read, at the end. Raises `Malformed`."""
        size = self.line().partition(b";")[0].strip()
        try:
            left = int(size, 16)
        except ValueError:
            raise Malformed("a chunk without a size") from None
        if left < 0:
            raise Malformed("a chunk of less than nothing")
        if not left:
            while self.line():
                pass
        return left

    def line(self) -> bytes:
        return self._read_to(b"\r\n")

    def readinto(self, out: memoryview) -> int:
        """Fills the beginning of `out`; how much of it, 0 where the connection has ended."""
        if self._rest:
            size = min(len(out), len(self._rest))
            out[:size] = self._rest[:size]
            self._rest = self._rest[size:]
            return size
        return self._socket.recv_into(out)

    def close(self) -> None:
        self._socket.close()

    def _read_to(self, end: bytes) -> bytes:
        """Reads up to and including `end`; returns what comes before it."""
        found = self._rest.find(end)
        while found < 0:
            if len(self._rest) > LONGEST:
                raise Malformed("a head without an end")
            more = self._socket.recv(PIECE)
            if not more:
                raise Malformed("the connection ended before an answer")
            begin = max(len(self._rest) - len(end) + 1, 0)
            self._rest += more
            found = self._rest.find(end, begin)
        before, self._rest = self._rest[:found], self._rest[found + len(end) :]
        return before
