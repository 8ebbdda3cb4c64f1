"""One listening port, served by an event loop in a thread of its own. Knows no tasks and no clients."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable

from umbel.errors import ListenerFailed
from umbel.runtime.transports.http.address import parse_address
from umbel.runtime.transports.http.behind import Behind
from umbel.runtime.transports.http.connections import Connections, Peer
from umbel.runtime.transports.http.forwarded import TrustedProxies
from umbel.runtime.transports.http.intake import Intake
from umbel.runtime.transports.http.requests import Application

__all__ = ["AddressInUse", "Listener"]

HANDSHAKE = 10.0  # seconds for TLS
GOODBYE = 2.0  # seconds for its end
GRACE = 1.0  # seconds for answers that are on their way when the server ends
BACKLOG = 4096  # connections that wait to be accepted
NOBODY = TrustedProxies()


class AddressInUse(OSError):
    """Somebody else listens there."""


class Listener:
    """Binds at once, so that a port in use is an error here; serves from `start` on.

    Raises `AddressInUse`, or another `OSError` for an address that this machine does not have.
    """

    def __init__(self, address: str, *, tls: ssl.SSLContext | None = None, trusted: TrustedProxies = NOBODY) -> None:
        self.host, port = parse_address(address)
        self.trusted = trusted
        self._tls = tls
        self.certificate_needed = tls is not None and tls.verify_mode is not ssl.CERT_NONE
        self._socket = _bind(self.host, port)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._calls: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._called = False
        self._stopping = False
        self._failed: Callable[[BaseException], None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def open_to_all(self) -> bool:
        """Whether others than this machine can connect, and without TLS."""
        return self._tls is None and not self.host.startswith("127.") and self.host not in ("::1", "localhost")

    def start(
        self,
        app: Application,
        connections: Connections,
        disconnected: Callable[[Peer, bool], None],
        watch: Callable[[], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Serves `app` on `connections`; tells of each closed one by its peer, and runs `watch` beside it.

        Whatever ends the thread before `stop` is given to `failed`: a run without it would wait for ever.
        """
        open_ones = set[Intake]()
        handshake, goodbye = (None, None) if self._tls is None else (HANDSHAKE, GOODBYE)
        ready = threading.Event()
        self._failed = failed

        def protocol() -> Intake:
            given = app, connections, disconnected, open_ones
            return Behind(self.trusted, *given) if self.trusted else Intake(*given)

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await self._loop.create_server(
                protocol,
                sock=self._socket,
                ssl=self._tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=handshake,  # patience of our own: asyncio's is a minute
                ssl_shutdown_timeout=goodbye,
            )
            watching = self._loop.create_task(_coroutine(watch))  # it is to last as long as the server
            stopping = self._loop.create_task(self._stop.wait())
            ready.set()
            try:
                await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
                server.close()
                await _close_all(open_ones)
            finally:
                stopping.cancel()
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching

        def work() -> None:
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(serve())
                self._fail(None)
            except BaseException as error:  # whatever it is, it is said where the run waits
                self._fail(error)
            ready.set()

        self._thread = threading.Thread(target=work, name="umbel-http", daemon=True)
        self._thread.start()
        ready.wait()

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls a function in the event loop's thread, soon. What it raises ends the run, which waits for its effect.

        Calls that come before the thread gets to it wake it once: 20 us each, and a hand-over of Python's lock.
        """
        if self._loop is None:  # the thread has not come so far
            return
        self._calls.append((function, arguments))
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
                self._loop.call_soon_threadsafe(self._do_calls)

    def _do_calls(self) -> None:
        self._called = False  # before the first: whoever calls from here on wakes the thread again
        try:
            while self._calls:
                function, arguments = self._calls.popleft()
                function(*arguments)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException | None) -> None:
        why = "it has come to an end" if error is None else f"{type(error).__name__}: {error}"
        if not self._stopping and self._failed is not None:
            self._failed(ListenerFailed(f"the thread that serves the network has ended ({why}); the run is kept"))

    def stop(self) -> None:
        """Closes the port and ends the thread."""
        self._stopping = True
        if self._stop is not None:
            self.call(self._stop.set)
        if self._thread is not None:
            self._thread.join(10)
        self._socket.close()


async def _close_all(open_ones: set[Intake]) -> None:
    """Closes every connection: those with a request under way once it is answered, or after `GRACE`."""
    for connection in [*open_ones]:
        connection.end()
    until = time.monotonic() + GRACE
    while open_ones and time.monotonic() < until:
        await asyncio.sleep(0.02)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one: a third less time for a small request."""
    try:
        import uvloop
    except ImportError:  # not on this platform
        return None
    return uvloop.new_event_loop


async def _coroutine(function: Callable[[], Awaitable[None]]) -> None:
    await function()


def _bind(host: str, port: int) -> socket.socket:
    if host in ("::", "*", ""):
        try:
            return _open_socket(socket.AF_INET6, "::", port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(error.errno, f"port {port} is already in use on {host}") from None
        host = "0.0.0.0"  # no IPv6 here: then IPv4 alone
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _open_socket(family, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(error.errno, f"port {port} is already in use on {host}") from None
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _open_socket(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _notice_dead_machines(sock)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _notice_dead_machines(sock: socket.socket) -> None:
    """Has the system see to it, on every connection, that the other machine is still there.

    Its system answers for a client that is busy, too: so a minute without a word is a machine that is gone.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle, sent = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)), ("TCP_USER_TIMEOUT", 60_000)
    for option, value in (*idle, sent):
        if hasattr(socket, option):  # not on every platform
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
