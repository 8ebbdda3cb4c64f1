"""What happens to every request before and after its handler: is it welcome, whose is it, and how is it refused.

Knows HTTP, sessions and refusals; knows no tasks. A refusal is a status with a reason for its sender, and a line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

from umbel.errors import StoreError, StoreUnavailable, WireError
from umbel.runtime.log import logger
from umbel.runtime.security.signatures import hasher
from umbel.runtime.transports.http.body import Disconnected
from umbel.runtime.transports.http.buffer import Buffer, Held
from umbel.runtime.transports.http.connections import Connection, Connections, Limits
from umbel.runtime.transports.http.forwarded import TrustedProxies, plain
from umbel.runtime.transports.http.protocol import OURS, PART, SESSION, Problem, Refused, Register, check_name, encode
from umbel.runtime.transports.http.refusals import Refusals
from umbel.runtime.transports.http.requests import Application, Request, Response, Route, Routes
from umbel.runtime.transports.http.sessions import Present, Sessions
from umbel.runtime.transports.http.turns import Turns
from umbel.wire import short

if TYPE_CHECKING:
    from blake3 import blake3

    from umbel.runtime.transports.http.gate import Gate

__all__ = ["Reception"]

OFFENCES = frozenset({400, 403, 404, 405, 413, 416})  # what no Umbel client is refused for, unless it is broken


class Reception:
    """Stands before every handler. `failed` hears of a store that cannot be written; `owes(client)` says who has a task."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        limits: Limits,
        refusals: Refusals,
        certificate_needed: bool,
        trusted: TrustedProxies,
        gate: Gate | None,
        failed: Callable[[StoreError], None],
        owes: Callable[[str], bool],
    ) -> None:
        self._sessions = sessions
        self._limits = limits
        self._refusals = refusals
        self._certificate_needed = certificate_needed
        self._trusted = trusted
        self._gate = gate
        self._failed = failed
        self._owes = owes
        self._turns = Turns()
        self._buffer = Buffer(limits.buffered, slow=8 * limits.rate)
        self._held: dict[Held, Connection] = {}  # messages in the buffer that are not yet whole
        self.connections = Connections(limits, refusals.complain, self._count_offence)

    # ---- around the handlers

    def app(self, given: Iterable[Route]) -> Application:
        """The application of these routes."""
        routes = Routes(given)

        async def app(request: Request) -> Response:
            await self._turn(request)
            try:
                return await self._answer(request, routes.find(request))
            except Refused as refusal:
                return self._refusal(request, refusal.status, str(refusal), refusal.headers)

        return app

    async def _turn(self, request: Request) -> None:
        """Waits until this request may begin."""
        client = self._sessions.find(request.headers.get(SESSION, ""))
        name = "" if client is None else client.name
        if client is not None and client.holder is None:  # nobody needs to sign: then it is the client's
            request.client = client
        owes = client is not None and self._owes(name) and request.path.startswith(("/v1/tasks/", "/v1/contents/"))
        await self._turns.take(self.address(request), name, owes=owes)

    async def _answer(self, request: Request, route: Route) -> Response:
        try:
            self._welcome(request, route.most)
            return await route.handler(request)
        except Refused as refusal:
            if refusal.expected:
                return _problem(request, refusal.status, str(refusal), refusal.headers)
            answer = self._refusal(request, refusal.status, str(refusal), refusal.headers)
            await self.keep_waiting(request)
            return answer
        except WireError as error:
            answer = self._refusal(request, 400, str(error))
            await self.keep_waiting(request)
            return answer
        except StoreUnavailable as error:
            logger.warning("%s; the client is told to try again", error)
            return _problem(request, 503, "the server cannot write at the moment; try again soon", {})
        except StoreError as error:
            self._failed(error)  # the run's loop ends with it
            return self._refusal(request, 503, "the server cannot write")
        except Disconnected:
            connection = request.connection
            if connection is None or connection.refused:  # closed here, and its line is written
                return Response(400, {})
            return self._refusal(request, 400, "the connection broke before all of it had come", offence=False)
        finally:
            self._give_back(request)

    def _welcome(self, request: Request, most: int | None) -> None:
        """Refuses what need not be read at all."""
        connection = request.connection
        if request.target and not _is_relayed(request):
            raise Refused(
                421,
                f"this is an Umbel server, and no proxy that leads to {short(request.target)}; whoever was told so by "
                "HTTP_PROXY goes there directly if NO_PROXY has its host",
            )
        if self._certificate_needed and (connection is None or not connection.certified):
            raise Refused(
                403,
                "this server asks for a client's certificate: start_client(client_certificate=(certificate, key)), or curl "
                "--cert and --key; `umbel certs client NAME` makes one",
            )
        if most is not None and "content-length" in request.headers and request.length > most:
            raise Refused(413, f"the message is longer than {most} bytes")

    def _refusal(
        self, request: Request, status: int, why: str, headers: dict[str, str] | None = None, *, offence: bool = True
    ) -> Response:
        """The answer to a request that is refused, with its line in the log."""
        client = request.client
        source = client.name if client is not None else self.address(request) or "somebody"
        line = f"refused {request.method} {short(request.path)} with {status}: {why}"
        self._refusals.say(source, line, again=client is not None and status != 401)
        if offence and client is not None and status in OFFENCES:
            quarantine = self._refusals.offends(client.name, why)
            if quarantine:
                why = f"{why}. {client.name} is {quarantine}"
                self._leave(client, quarantine)
        return _problem(request, status, why, headers)

    def address(self, request: Request) -> str:
        """The address of whoever has sent this request, as far as whoever says so is trusted; "" where it has gone."""
        connection = request.connection
        if connection is None:
            return plain(request.peer[0])
        return self._trusted.sender(connection.address, request.headers) if connection.shared else connection.address

    async def keep_waiting(self, request: Request) -> None:
        """A request that has come to nothing: its answer takes a while where there were many."""
        client = request.client
        source = client.name if client is not None else self.address(request)
        seconds = self._refusals.in_vain(source, stranger=client is None)
        if seconds:
            with contextlib.suppress(Disconnected):
                await self.drain(request)  # a thousand bodies that nobody wants would lie in memory meanwhile
            await asyncio.sleep(seconds)

    def _count_offence(self, name: str, why: str) -> None:
        """A client's connection was refused; its session is over where that was once too often."""
        client = self._sessions.get(name)
        quarantine = "" if client is None else self._refusals.offends(name, why)
        if client is not None and quarantine:
            self._leave(client, quarantine)

    def _leave(self, client: Present, quarantine: str) -> None:
        self.connections.penalize(client.address)
        self._sessions.leave(client, quarantine)

    # ---- for the handlers

    def client(self, request: Request) -> Present:
        """Whose request this is. Raises `Refused`."""
        client = self._sessions.of(request.headers.get(SESSION, ""))
        if self._gate is not None and client.holder is not None:
            request.digest = self._gate.check(request, client.holder)
        request.client = client
        self._refusals.asks(client.name)
        self._sessions.seen(client, request.peer, relayed=_is_relayed(request))
        self.connections.trust(request.peer, client.name)
        return client

    async def register(self, request: Request, message: Register, body: bytes | bytearray) -> Present:
        """A new session for the name in the message. Raises `Refused`."""
        peer, name = request.peer, message.client_id
        self._refusals.registers(self.address(request))
        try:
            check_name(name)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        holder = None if self._gate is None else await self._gate.admit(request, message, body)
        self._refusals.admit(name)  # nobody else hears of it where names belong to somebody
        client = self._sessions.register(name, peer, self.address(request), relayed=_is_relayed(request))
        client.holder = holder
        self.connections.release(name)  # those of the process that is fenced by this one
        self.connections.trust(peer, name)
        return client

    async def body(self, request: Request, limit: int) -> bytearray:
        """The request's message. Raises `Refused` where it is too long, or memory for it is short."""
        body, digest = bytearray(), self._begin_body(request)
        while chunk := await request.body.read():
            if digest is not None:
                digest.update(chunk)
            body += chunk
            if len(body) > limit:
                raise Refused(413, f"the message is longer than {limit} bytes")
            self.hold(request, len(chunk))
        self._end_body(request, digest)
        held = request.held
        if held is not None:
            held.whole = True
            self._held.pop(held, None)
        return body

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body as it comes. Raises `Refused` at its end where it is not the one that was signed."""
        digest = self._begin_body(request)
        while chunk := await request.body.read():
            if digest is not None:
                digest.update(chunk)
            yield chunk
        self._end_body(request, digest)

    def _begin_body(self, request: Request) -> blake3 | None:
        """Counts the connection among those that send a body. Returns the hash for its digest; None where it is unsigned."""
        if request.connection is not None:
            request.connection.receives()
        return None if request.digest is None else hasher()

    def _end_body(self, request: Request, digest: blake3 | None) -> None:
        """Raises `Refused` where the body is not the one that was signed."""
        if request.connection is not None:
            request.connection.receiving = False
        signed = request.digest
        if digest is not None and signed is not None and not hmac.compare_digest(signed, digest.digest()):
            raise Refused(422, "the body is not the one that was signed; send it again")

    async def drain(self, request: Request) -> None:
        """Reads what is left of a part, so that the sender gets to hear the answer."""
        if request.length <= PART:
            request.digest = None  # nobody looks at it
            self._begin_body(request)
            while await request.body.read():
                pass
            self._end_body(request, None)

    def hold(self, request: Request, size: int) -> None:
        """Takes memory for a message until its request is answered. Raises `Refused` where there is none."""
        held = request.held
        if held is None:
            client = request.client
            mine = request.connection
            held = Held(self.address(request), "" if client is None else client.name)
            request.held = held
            if mine is not None:
                self._held[held] = mine
        if self._buffer.take(held, size):
            return
        for one, where in self._held.items():
            one.moves = where.moves()
        while not self._buffer.take(held, size):
            other = self._buffer.gives_way(held, size)
            if other is None:
                raise Refused(503, "too many large messages are on their way at the same time; try again soon")
            self._buffer.give_back(other)
            connection = self._held.pop(other, None)
            if connection is not None:  # else it is closing already, and has read on what had come before
                self.connections.evict(connection)

    def _give_back(self, request: Request) -> None:
        held = request.held
        if held is not None:
            self._held.pop(held, None)
            self._buffer.give_back(held)


def _problem(request: Request, status: int, why: str, headers: dict[str, str] | None) -> Response:
    headers = {"cache-control": "no-store", **(headers or {})}
    if "msgpack" in request.headers.get("accept", "msgpack"):
        return Response(status, {**headers, "content-type": "application/msgpack"}, encode(Problem(why)))
    text = {"content-type": "text/plain; charset=utf-8", OURS: "1"}
    return Response(status, {**text, **headers}, f"{why}\n".encode())  # curl, or a browser


def _is_relayed(request: Request) -> bool:
    """Whether a reverse proxy has passed it on. Whoever only says so gains patience, and nothing else."""
    connection = request.connection
    told = connection is not None and (connection.shared or connection.address != plain(connection.peer[0]))
    return told or any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
