"""A network between clients and a server, with every fault that a network has: for tests of programs that use Umbel.

It passes bytes on, in threads of its own, and knows HTTP only as far as it takes to send a request twice. Every fault can be
set and taken back while connections are open:

    with ChaosProxy(8080, latency=0.05, jitter=0.02, bandwidth=1e6) as proxy:
        fl.client.start_client(server_address=proxy.address, client=client)
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["ChaosProxy"]

CHUNK = 65536
BUFFER = 65536  # bytes that the system may hold for a connection, so that a reset loses no more than a network would
ECHO = 5.0  # seconds that the answer to a duplicate is waited for


class ChaosProxy:
    """Listens on a free port of `host`, and passes on to `port` there.

    - `latency`, `jitter`: seconds that each chunk takes; the jitter is added, evenly distributed from 0.
    - `bandwidth`: bytes a second, per connection and direction; None for as fast as it goes.
    - `fragment`: the most bytes that are passed on at a time; 1 is the hardest.
    - `reset_after`, `reset_answers_after`: (least, most) bytes from a client, and to it, after which a connection is reset,
      drawn for each.
    - `blackhole`: bytes are taken and never passed on.
    - `duplicate`: each request but a registration is sent a second time, on another connection, when its answer comes.
    - `change`, `change_answers`: functions of the bytes that clients send, and of those they get.
    - `stop_after`: bytes from the clients, in all, after which nothing passes in either direction; None for no limit.
    - `seed`: of the draws.

    `passed` and `returned` count the bytes from and to clients, `resets` the connections that were reset, `duplicates` the
    requests that were sent twice.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        latency: float = 0.0,
        jitter: float = 0.0,
        bandwidth: float | None = None,
        fragment: int | None = None,
        reset_after: tuple[int, int] | None = None,
        reset_answers_after: tuple[int, int] | None = None,
        blackhole: bool = False,
        duplicate: bool = False,
        stop_after: int | None = None,
        seed: int = 0,
    ) -> None:
        self.latency, self.jitter, self.bandwidth, self.fragment = latency, jitter, bandwidth, fragment
        self.reset_after, self.reset_answers_after = reset_after, reset_answers_after
        self.blackhole, self.duplicate = blackhole, duplicate
        self.change: Callable[[bytes], bytes] = lambda data: data
        self.change_answers: Callable[[bytes], bytes] = lambda data: data
        self.passed = self.returned = self.resets = self.duplicates = 0
        self._target = (host, port)
        self._draws = random.Random(seed)
        self._open = threading.Condition()  # told when bytes may pass again
        self._stop_after = stop_after
        self._parted = self._closing = False
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server((host, 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.port: int = self._listening.getsockname()[1]
        self.address = f"{host}:{self.port}"
        self._start(self._accept)

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    # ---- faults that happen at a moment

    @property
    def stop_after(self) -> int | None:
        return self._stop_after

    @stop_after.setter
    def stop_after(self, limit: int | None) -> None:
        with self._open:
            self._stop_after = limit
            self._open.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether `stop_after` has been reached."""
        return self._stop_after is not None and self.passed >= self._stop_after

    def part(self) -> None:
        """Parts the network: nothing passes, and nothing is lost, until `heal`. New connections are taken, and silent."""
        self._parted = True

    def heal(self) -> None:
        """Lets pass what was held up."""
        with self._open:
            self._parted = False
            self._open.notify_all()

    def cut(self) -> None:
        """Resets every connection; new ones are welcome."""
        for end in list(self._sockets):
            _linger(end)
            _shut(end)

    def leads_to(self, port: int) -> None:
        """Leads to another port from now on; whatever is open is reset."""
        self._target = (self._target[0], port)
        self.cut()

    def close(self) -> None:
        """Ends all of it."""
        self._closing = True
        self.heal()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for end in list(self._sockets):
            end.close()

    # ---- threads: one that accepts, and two per connection

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = self._connect()
            except OSError:
                _linger(near)
                near.close()
                continue
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            self._sockets |= {near, far}
            requests = _Requests()
            self._start(self._pump, near, far, self._limit(self.reset_after), requests, self._up)
            self._start(self._pump, far, near, self._limit(self.reset_answers_after), requests, self._down)

    def _limit(self, between: tuple[int, int] | None) -> int | None:
        return None if between is None else self._draws.randint(*between)

    def _connect(self) -> socket.socket:
        far = socket.create_connection(self._target, 5)
        far.settimeout(None)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return far

    def _up(self, data: bytes, requests: _Requests) -> bytes:
        data = self.change(data)
        self.passed += len(data)
        if self.duplicate:  # else they would be kept for nothing, and without end where they are encrypted
            requests.feed(data)
        return data

    def _down(self, data: bytes, requests: _Requests) -> bytes:
        data = self.change_answers(data)
        self.returned += len(data)
        request = requests.take()
        if self.duplicate and request is not None and b" /v1/register " not in request[:100]:
            self._start(self._send_again, request)
        return data

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        limit: int | None,
        requests: _Requests,
        seen: Callable[[bytes, _Requests], bytes],
    ) -> None:
        taken = 0
        try:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(CHUNK):
                self._hold()
                if limit is not None and taken + len(data) >= limit:
                    data = data[: limit - taken]
                taken += len(data)
                data = seen(data, requests)
                if not self.blackhole:
                    self._pass(sink, data)
                if limit is not None and taken >= limit:
                    self.resets += 1
                    for end in (source, sink):
                        _linger(end)
                    break
            else:
                _shut(source)
        except OSError:
            _shut(source)
        _shut(sink)  # which ends the other direction's thread
        self._sockets.discard(source)
        source.close()

    def _hold(self) -> None:
        """Waits while the network is parted, or has stopped."""
        with self._open:
            self._open.wait_for(lambda: self._closing or not (self._parted or self.stopped))

    def _pass(self, sink: socket.socket, data: bytes) -> None:
        if self.latency or self.jitter:
            time.sleep(self.latency + self._draws.uniform(0, self.jitter))
        step = self.fragment or len(data)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            sink.sendall(part)
            if self.bandwidth:
                time.sleep(len(part) / self.bandwidth)

    def _send_again(self, request: bytes) -> None:
        """Sends a request a second time, and hears its answer out."""
        with contextlib.suppress(OSError), self._connect() as connection:
            self.duplicates += 1
            connection.settimeout(ECHO)
            connection.sendall(request)
            while connection.recv(CHUNK):
                connection.settimeout(0.2)  # the rest of it comes at once


def _linger(end: socket.socket) -> None:
    """From now on the other side sees a reset, and not an orderly end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class _Requests:
    """The requests of one connection, of which the newest that is complete can be taken."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._complete: bytes | None = None

    def feed(self, data: bytes) -> None:
        self._bytes += data
        while (head := self._bytes.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self._bytes[:head])
            size = head + 4 + (int(length[1]) if length else 0)
            if len(self._bytes) < size:
                return
            self._complete = bytes(self._bytes[:size])
            del self._bytes[:size]

    def take(self) -> bytes | None:
        complete, self._complete = self._complete, None
        return complete
