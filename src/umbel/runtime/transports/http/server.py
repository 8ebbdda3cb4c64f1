"""The server's side of HTTP: the routes, and the run's loop's way to them.

Knows sessions, requests and an event loop; knows no strategy, and decides nothing about rounds. What a client is owed is
`owed.py`'s, what its answer comes to is `replies.py`'s, and whose a request is was settled before (`reception.py`): a route
reads a message, asks one of them, and waits where something has to be waited for. All of it happens in the event loop's
thread; the run's loop talks to it through `Transport` and hears from it through a queue.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from umbel.dialogue import Parameters
from umbel.door import Door
from umbel.reports import Room
from umbel.rounds.messages import Failure, Input, Joined, Kind, Left, Task, Verdict
from umbel.runtime.failpoints import failpoint
from umbel.runtime.stores.base import Store
from umbel.runtime.transports.http.answering import Answers
from umbel.runtime.transports.http.asking import Questions
from umbel.runtime.transports.http.bounds import MAX_VALUES
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.owed import Debts
from umbel.runtime.transports.http.polling import MAX_POLL, Ending, Polls
from umbel.runtime.transports.http.protocol import INLINE, VERSION, Outcome, Refused, Register, Registered, decode
from umbel.runtime.transports.http.reception import Reception
from umbel.runtime.transports.http.refusals import Refusals
from umbel.runtime.transports.http.replies import Replies
from umbel.runtime.transports.http.requests import MAX_SMALL, Request, Response, Route, message
from umbel.runtime.transports.http.sessions import SWEEP, Present, Sessions
from umbel.training import Answer
from umbel.update import Given
from umbel.wire import MAX_HEADER

if TYPE_CHECKING:
    from umbel.runtime.transports.http.gate import Gate

__all__ = ["HttpTransport"]

FAREWELL = 15.0  # seconds that the end of a run waits for every client to hear of it
MAX_MESSAGE = MAX_HEADER + 2 * INLINE  # bytes of an offer, but for what metrics have room for beyond the usual


class HttpTransport:
    """Serves a run on a listener. `known` are the clients of a run that is resumed, `pending` the tasks that it dispatches
    again: an answer to one of these may come before.
    """

    def __init__(
        self,
        listener: Listener,
        run: str,
        store: Store,
        *,
        known: Iterable[str] = (),
        pending: Iterable[str] = (),
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        gate: Gate | None = None,
        room: Room = Room(),  # noqa: B008  # a value
        max_bytes: int | None = None,
    ) -> None:
        self._run = run
        self._inputs: queue.SimpleQueue[Input | BaseException] = queue.SimpleQueue()
        self._before_asking: Callable[[], None] = lambda: None
        self._ending = Ending()
        self._debts = Debts(pending)
        self._questions = Questions(run, store.contents, room=room, max_bytes=max_bytes)
        self._refusals = Refusals(limits)
        self._sessions = Sessions(
            joined=lambda name: self.put(Joined(name)),
            left=self._left,
            known=known,
            most=limits.clients,
            lease=limits.lease,
            enters=self._refusals.enters,
            gone=self._gone,
        )
        self._reception = Reception(
            self._sessions,
            limits=limits,
            refusals=self._refusals,
            certificate_needed=listener.certificate_needed,
            trusted=listener.trusted,
            gate=gate,
            failed=self.put,
            owes=self._debts.__contains__,
        )
        self._polls = Polls(self._debts, store.contents, self._sessions, self._reception, self._ending, seed=seed)
        self._replies = Replies(
            store.contents,
            longest=MAX_MESSAGE + max(room.encoded - INLINE, 0),
            values=max(MAX_VALUES, 4 * room.metrics),
            signed=gate is not None,
        )
        self._answers = Answers(
            run,
            self._debts,
            self._replies,
            self._questions,
            self._polls,
            self._reception,
            self._refusals,
            self._ending,
            put=self.put,
            accepted=store.accepted,
        )
        self._gate = gate
        self._listener = listener
        app, connections = self._reception.app(self.routes()), self._reception.connections
        listener.start(app, connections, self._sessions.disconnected, self._watch, self.put)

    # ---- for the run's loop

    def receive(self, timeout: float | None) -> Input | None:
        try:
            event = self._inputs.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    def put(self, event: Input | BaseException) -> None:
        """Adds an input; an exception is raised in the run's loop."""
        self._inputs.put(event)

    def dispatch(self, task: Task, given: Given, door: Door) -> None:
        self._listener.call(self._owe, task, given, door)

    def cancel(self, task: Task) -> None:
        self._listener.call(self._take_back, task)

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        self._listener.call(self._answers.decide, task, Outcome(verdict, why))

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        self._before_asking()
        return self._questions.ask(self, client, kind, parameters, config, timeout)

    def before_asking(self, then: Callable[[], None]) -> None:
        self._before_asking = then

    def close(self, why: str, *, over: bool) -> None:
        gone = threading.Event()
        self._listener.call(self._say_goodbye, why, over, gone)
        if over:
            gone.wait(FAREWELL)
        self._listener.stop()

    # ---- from here on: the event loop's thread

    def routes(self) -> list[Route]:
        return [
            Route("/", "GET", 0, self._hello),
            Route("/v1/register", "POST", MAX_SMALL, self._register),
            Route("/v1/next", "POST", MAX_POLL, self._polls.next),
            Route("/v1/contents/{name}", "GET", 0, self._polls.content),
            Route("/v1/tasks/{task}/reply", "POST", self._replies.longest, self._answers.reply),
            Route("/v1/tasks/{task}/offer/{offset}", "PUT", None, self._answers.piece),
            Route("/v1/tasks/{task}/data/{offset}", "PUT", None, self._answers.data),
            Route("/v1/tasks/{task}/commit", "POST", MAX_SMALL, self._answers.commit),
            Route("/v1/leave", "POST", MAX_SMALL, self._leave),
        ]

    async def _watch(self) -> None:
        """Notices, for ever, who has gone, what takes too long, and who may no longer take part."""
        watching = None if self._gate is None else asyncio.create_task(self._gate.watch(self._leave_revoked))
        try:
            while True:
                await asyncio.sleep(SWEEP)
                self._sessions.sweep()
                self._reception.connections.sweep()
                self._refusals.sweep()
        finally:
            if watching is not None:
                watching.cancel()

    def _leave_revoked(self, keys: set[bytes]) -> None:
        for client in self._sessions:
            if client.holder is not None and client.holder.key in keys:
                self._sessions.leave(client, "its key has been revoked")

    # ---- who comes and goes

    async def _hello(self, request: Request) -> Response:
        await self._reception.keep_waiting(request)
        # Where clients need an identity, whoever asks here is a stranger.
        present = "" if self._gate is not None else f", run {self._run}, {len(self._sessions)} clients present"
        return Response(200, {"content-type": "text/plain; charset=utf-8"}, f"Umbel server{present}\n".encode())

    async def _register(self, request: Request) -> Response:
        body = await self._reception.body(request, MAX_SMALL)
        told = decode(body, Register)
        if told.version != VERSION:
            versions = f"this server speaks protocol {VERSION}, the client {told.version}"
            raise Refused(426, f"{versions}; install the same Umbel on both")
        client = await self._reception.register(request, told, body)
        failpoint("session.registered")
        return message(Registered(self._run, client.session))

    async def _leave(self, request: Request) -> Response:
        self._sessions.leave(self._polls.client(request), "it said goodbye")
        return Response(204, {})

    def _gone(self, client: Present) -> None:
        self._reception.connections.release(client.name)
        if client.entered and not self._ending:
            self._refusals.leaves(client.name, client.address)

    def _left(self, name: str, why: str) -> None:
        for task in self._debts.to(name):
            self._questions.leave(task, why)
        self.put(Left(name, why))

    def _say_goodbye(self, why: str, over: bool, gone: threading.Event) -> None:
        self._ending.over, self._ending.away = (why, False) if over else (None, True)
        self._answers.end_waits()
        for owed in self._debts.all():
            if not owed.submitted:
                owed.withdraw()
        for client in self._sessions:
            client.wake()

        async def wait() -> None:
            while len(self._sessions):
                await asyncio.sleep(0.02)
            gone.set()

        self._farewell = asyncio.get_running_loop().create_task(wait())

    # ---- what a client is owed

    def _owe(self, task: Task, given: Given, door: Door) -> None:
        self._debts.owe(task, given, door)
        client = self._sessions.get(task.client)
        if client is not None:  # an answer to a reply takes it along; the poll has nothing to do then
            (client.work if client.following else client.news).ring()

    def _take_back(self, task: Task) -> None:
        client = self._sessions.get(task.client)
        if self._debts.take_back(task.id) and client is not None:
            client.news.ring()
