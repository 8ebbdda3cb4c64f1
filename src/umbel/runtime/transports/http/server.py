"""The server's side of HTTP: who is there, what each client is owed, and what came of its replies.

Knows sessions, tasks and uploads; knows no strategy, and decides nothing about rounds. All of its state lives in the event
loop's thread; the run's loop talks to it through `Transport` and hears from it through a queue.

What a client is owed is a set, and a poll carries the set that the client has: the answer is the difference. So nothing is
lost with a lost answer, and a restarted server needs no memory of what it has sent.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from umbel.door import Door
from umbel.errors import Rejected, StoreError, WireError
from umbel.exchange import Parameters, scalars
from umbel.params import Params
from umbel.reports import Room
from umbel.rounds.messages import (
    Failed,
    Failure,
    FailureKind,
    Input,
    Joined,
    Kind,
    Left,
    Replied,
    Reply,
    Task,
    Verdict,
)
from umbel.runtime.contents import Content, write_content
from umbel.runtime.failpoints import failpoint
from umbel.runtime.largest import largest_update
from umbel.runtime.security.signatures import hasher
from umbel.runtime.stores.base import Store
from umbel.runtime.surplus import Surplus
from umbel.runtime.transports.http.bounds import MAX_VALUES
from umbel.runtime.transports.http.conduct import Conduct
from umbel.runtime.transports.http.connections import Limits
from umbel.runtime.transports.http.draft import Draft
from umbel.runtime.transports.http.headers import Headers
from umbel.runtime.transports.http.listener import Listener
from umbel.runtime.transports.http.protocol import (
    FOLLOW,
    GO,
    INLINE,
    PART,
    POLL,
    VERSION,
    WORKING,
    Commit,
    ContentHead,
    FailureHead,
    Next,
    Offer,
    Outcome,
    Poll,
    Refused,
    Register,
    Registered,
    TaskHead,
    decode,
    encode,
    metrics_of,
)
from umbel.runtime.transports.http.reception import Handler, Reception, declared_length
from umbel.runtime.transports.http.sessions import SWEEP, Present, Sessions
from umbel.runtime.transports.http.upload import Upload
from umbel.stepping import Source
from umbel.training import Answer
from umbel.wire import MAX_HEADER, Schema, short

if TYPE_CHECKING:
    from umbel.runtime.transports.http.gate import Gate

__all__ = ["HttpTransport"]

FAREWELL = 15.0  # seconds that the end of a run waits for every client to hear of it
SETTLED = 10_000  # tasks remembered as decided
TOLD = 5  # times that a client may have lost a task and ask for it again
PATIENCE = 25.0  # seconds a request may wait for the run's loop before it is told to ask again
MAX_MESSAGE = MAX_HEADER + 2 * INLINE
MAX_POLL = 3 * 2**12  # bytes: the names of MAX_TASKS tasks
MAX_SMALL = 4096  # bytes of a registration or a commit
_NO_OFFER = Outcome(GO, "make an offer first", 0)


@dataclass(slots=True)
class _Owed:
    """A task that a client is owed, and how far its answer has come."""

    task: Task
    content: str | None
    door: Door
    upload: Upload | None = None
    draft: Draft | None = None  # an offer that comes in pieces
    tellings: int = 0  # how often a poll has brought it
    submitted: bool = False  # its answer is with the run's loop
    told_at: float = 0.0  # when the answer to another reply brought it; a poll from before need not


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
        self._room = room
        self._max_bytes = max_bytes
        self._longest = MAX_MESSAGE + max(room.encoded - INLINE, 0)  # bytes of an offer
        self._values = max(MAX_VALUES, 4 * room.metrics)
        self._surplus = Surplus()
        self._seed = seed
        self._store = store
        self._contents = store.contents
        self._inputs: queue.SimpleQueue[Input | BaseException] = queue.SimpleQueue()
        self._owed: dict[str, dict[str, _Owed]] = {}  # by client, by task
        self._holders: dict[str, str] = {}  # task → client
        self._pending = set(pending)  # tasks that the run's loop is about to dispatch
        self._settled: OrderedDict[str, None] = OrderedDict()  # tasks lately decided: their clients need no word of it
        self._forgotten: OrderedDict[str, None] = OrderedDict()  # tasks lately taken back
        self._heads: dict[str, ContentHead] = {}
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._asked: dict[str, concurrent.futures.Future[Answer | Failure]] = {}
        self._over: str | None = None
        self._away = False
        joined = lambda name: self.put(Joined(name))  # noqa: E731
        self._conduct = Conduct(limits)
        self._sessions = Sessions(
            joined=joined,
            left=self._left,
            known=known,
            most=limits.clients,
            lease=limits.lease,
            enters=self._conduct.enters,
            gone=self._gone,
        )
        self._reception = Reception(
            self._sessions,
            limits=limits,
            conduct=self._conduct,
            certificate_needed=listener.certificate_needed,
            trusted=listener.trusted,
            gate=gate,
            failed=self.put,
            owes=self._owed.__contains__,
        )
        self._gate = gate
        self._headers = Headers()
        self._listener = listener
        connections, lease = self._reception.connections, limits.lease
        listener.start(self._app(), connections, self._sessions.disconnected, self._watch, lease, self.put)

    # ---- for the run's loop

    def receive(self, timeout: float | None) -> Input | None:
        try:
            event = self._inputs.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    def has_input(self) -> bool:
        return not self._inputs.empty()

    def put(self, event: Input | BaseException) -> None:
        """Adds an input; an exception is raised in the run's loop."""
        self._inputs.put(event)

    def dispatch(self, task: Task, content: str | None, door: Door) -> None:
        self._listener.call(self._owe, task, content, door)

    def cancel(self, task: Task) -> None:
        self._listener.call(self._forget, task)

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        self._listener.call(self._resolve, task, Outcome(verdict, why))

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        name = f"ask-{secrets.token_hex(8)}"
        task = Task(f"{self._run}.{name}", 0, kind, 0, 1, client, None, {**config}, name if parameters else None)
        if parameters is not None:
            write_content(self._contents, name, *parameters.stream())
        answered: concurrent.futures.Future[Answer | Failure] = concurrent.futures.Future()
        self._asked[task.id] = answered
        self.dispatch(task, task.content, self._door(kind))
        try:
            return answered.result(timeout)
        except TimeoutError:
            return Failure(FailureKind.LATE, f"no answer within {timeout:g} s")
        finally:
            del self._asked[task.id]
            self.cancel(task)
            self._contents.remove(name)

    def _door(self, kind: Kind) -> Door:
        """What an answer to a question outside of the rounds may be."""
        return Door(kind, None, 2**63, largest_update(self._contents, self._max_bytes), self._room)

    def close(self, why: str, *, over: bool) -> None:
        gone = threading.Event()
        self._listener.call(self._say_goodbye, why, over, gone)
        if over:
            gone.wait(FAREWELL)
        self._listener.stop()

    # ---- from here on: the event loop's thread

    def _app(self) -> ASGIApp:
        return self._reception.app(*self.routes())

    def routes(self) -> list[tuple[str, str, int | None, Handler]]:
        """Path, method, the most bytes that a body may have (None: the handler sees to that), and handler."""
        return [
            ("/", "GET", 0, self._hello),
            ("/v1/register", "POST", MAX_SMALL, self._register),
            ("/v1/next", "POST", MAX_POLL, self._next),
            ("/v1/contents/{name}", "GET", 0, self._content),
            ("/v1/tasks/{task}/reply", "POST", self._longest, self._reply),
            ("/v1/tasks/{task}/offer/{offset}", "PUT", None, self._piece),
            ("/v1/tasks/{task}/data/{offset}", "PUT", None, self._data),
            ("/v1/tasks/{task}/commit", "POST", MAX_SMALL, self._commit),
            ("/v1/leave", "POST", MAX_SMALL, self._leave),
        ]

    async def _watch(self) -> None:
        """Notices, for ever, who has gone, what takes too long, and who may no longer take part."""
        watching = None if self._gate is None else asyncio.create_task(self._gate.watch(self._revoked))
        try:
            while True:
                await asyncio.sleep(SWEEP)
                self._sessions.sweep()
                self._reception.connections.sweep()
                self._conduct.sweep()
        finally:
            if watching is not None:
                watching.cancel()

    def _revoked(self, keys: set[bytes]) -> None:
        for client in self._sessions:
            if client.holder is not None and client.holder.key in keys:
                self._sessions.leave(client, "its key has been revoked")

    async def _hello(self, request: Request) -> Response:
        await self._reception.keep_waiting(request)
        if self._gate is not None:  # whoever asks here is a stranger
            return PlainTextResponse("Umbel server\n")
        return PlainTextResponse(f"Umbel server, run {self._run}, {len(self._sessions)} clients present\n")

    # ---- sessions

    async def _register(self, request: Request) -> Response:
        body = await self._reception.body(request, MAX_SMALL)
        message = decode(body, Register)
        if message.version != VERSION:
            versions = f"this server speaks protocol {VERSION}, the client {message.version}"
            raise Refused(426, f"{versions}; install the same Umbel on both")
        client = await self._reception.register(request, message, body)
        failpoint("session.registered")
        return _message(Registered(self._run, client.session))

    def _client(self, request: Request) -> Present:
        client = self._reception.client(request)
        self._stay()
        return client

    def _stay(self) -> None:
        if self._away:
            raise Refused(503, "the server is about to restart; try again soon")

    async def _leave(self, request: Request) -> Response:
        self._sessions.leave(self._client(request), "it said goodbye")
        return Response(status_code=204)

    def _gone(self, client: Present) -> None:
        self._reception.connections.release(client.name)
        if client.entered and self._over is None and not self._away:
            self._conduct.leaves(client.name, client.address)

    def _left(self, name: str, why: str) -> None:
        for task in self._owed.get(name, {}):
            self._answer_asked(task, Failure(FailureKind.LEFT, f"the client left: {why}"))
        self.put(Left(name, why))

    def _say_goodbye(self, why: str, over: bool, gone: threading.Event) -> None:
        self._over, self._away = (why, False) if over else (None, True)
        for decided in self._waiting.values():  # nobody will decide any more: they ask again, and hear the above
            if not decided.done():
                decided.set_result(Outcome(WORKING))
        for mine in self._owed.values():
            for owed in mine.values():
                if not owed.submitted:
                    _give_up(owed)
        for client in self._sessions:
            client.news.set()

        async def wait() -> None:
            while len(self._sessions):
                await asyncio.sleep(0.02)
            gone.set()

        self._farewell = asyncio.get_running_loop().create_task(wait())

    # ---- what a client is owed

    def _owe(self, task: Task, content: str | None, door: Door) -> None:
        self._owed.setdefault(task.client, {})[task.id] = _Owed(task, content, door)
        self._holders[task.id] = task.client
        self._pending.discard(task.id)
        self._tell(task.client)

    def _forget(self, task: Task) -> None:
        self._pending.discard(task.id)
        owed = self._take_back(task.id)
        if owed is not None:
            self._forgotten[task.id] = None
            if len(self._forgotten) > SETTLED:
                self._forgotten.popitem(last=False)
            self._tell(task.client)
            if not owed.submitted:
                _give_up(owed)

    def _take_back(self, task: str) -> _Owed | None:
        name = self._holders.pop(task, None)
        if name is None:
            return None
        mine = self._owed[name]
        owed = mine.pop(task)
        if not mine:
            del self._owed[name]
        return owed

    def _tell(self, name: str) -> None:
        client = self._sessions.get(name)
        if client is not None:
            client.news.set()

    def _owed_to(self, client: Present) -> dict[str, _Owed]:
        return self._owed.get(client.name, {})

    def _is_owed(self, owed: _Owed) -> bool:
        """Whether the task has not been taken back while something was waited for."""
        return self._owed.get(owed.task.client, {}).get(owed.task.id) is owed

    async def _next(self, request: Request) -> Response:
        client = self._client(request)
        have = set(decode(await self._reception.body(request, MAX_POLL), Poll).have)
        session, started = client.session, time.monotonic()
        client.polls += 1
        try:
            while True:
                client.news.clear()
                self._sessions.of(session, held=True)  # raises where it is fenced by now, or has left
                self._stay()
                mine = self._owed_to(client)
                new = [] if client.following else self._new(client, have, before=started)
                cancelled = [n for n in have if n not in mine and n not in self._settled and n not in self._pending]
                left = started + POLL - time.monotonic()
                if self._over is not None or new or cancelled or left <= 0:
                    answer = Next([self._head(owed) for owed in new], cancelled, self._over)
                    if self._over is None and left > 0 and self._says_nothing_new(new, cancelled):
                        await self._reception.keep_waiting(request)
                    return _message(answer)
                await _wait(client.news, left)
        finally:
            client.polls -= 1
            client.seen_at = time.monotonic()

    def _says_nothing_new(self, new: list[_Owed], cancelled: list[str]) -> bool:
        """Whether an answer brings only tasks that its client has been told again and again, and takes back none it had."""
        again = all(owed.tellings >= TOLD for owed in new)
        for owed in new:
            owed.tellings += 1
        return again and not any(name in self._forgotten for name in cancelled)

    async def _next_tasks(self, client: Present, have: set[str]) -> list[TaskHead]:
        """What the client is owed next, as soon as there is something; it saves a small round its poll."""
        session, until = client.session, time.monotonic() + FOLLOW
        while self._over is None and not self._away and client.session == session:
            client.news.clear()
            new = self._new(client, have, before=until)
            left = until - time.monotonic()
            if new or left <= 0:
                for owed in new:
                    owed.told_at = time.monotonic()
                return [self._head(owed) for owed in new]
            await _wait(client.news, left)
        return []

    def _new(self, client: Present, have: set[str], *, before: float) -> list[_Owed]:
        """What the client is owed, does not have, and was not told since `before`."""
        mine = self._owed_to(client).items()
        return [o for name, o in mine if name not in have and not o.submitted and o.told_at <= before]

    def _head(self, owed: _Owed) -> TaskHead:
        task = owed.task
        content = None if owed.content is None else self._content_head(owed.content)
        room, transforms = owed.door.room, owed.door.transforms
        return TaskHead(task.id, task.kind, task.round, {**task.config}, content, self._seed, *room, transforms)

    def _content_head(self, name: str) -> ContentHead:
        if name not in self._heads:
            if len(self._heads) > 16:
                self._heads.clear()
            content = self._contents.open(name)
            small = content.read(0, content.size) if content.size <= INLINE else None
            self._heads[name] = ContentHead(name, content.size, content.crc32, small)
            content.close()
        return self._heads[name]

    async def _content(self, request: Request) -> Response:
        client, name = self._client(request), request.path_params["name"]
        if not any(owed.content == name for owed in self._owed_to(client).values()):
            raise Refused(404, f"no task of this client has the content {name!r}")
        content = self._contents.open(name)
        start = _range_start(request.headers.get("range", "bytes=0-"), content.size)
        headers = {
            "content-length": str(content.size - start),
            "content-type": "application/octet-stream",
            "content-range": f"bytes {start}-{content.size - 1}/{content.size}",
            "cache-control": "no-store",
        }
        return StreamingResponse(_stream(content, start), 206 if start else 200, headers)

    # ---- what a client answers

    async def _reply(self, request: Request) -> Response:
        client, name = self._client(request), request.path_params["task"]
        if name not in self._owed_to(client):  # then it does not matter what it says, and nothing of it is kept
            await self._reception.drain(request)
            return self._told(client, name, self._unwanted(name))
        offer = decode(await self._reception.body(request, self._longest), Offer, self._values)
        owed = self._owed_to(client).get(name)
        if offer.pieces and owed is not None and not owed.submitted:
            self._reception.hold(request, min(offer.pieces, self._longest))
            whole = None if owed.draft is None else owed.draft.complete(offer.pieces, offer.crc32)
            owed.draft = None
            if whole is None:
                return self._told(client, name, Outcome(GO, "the pieces of the offer are not all of it; send them again"))
            have, offer = offer.have, decode(whole, Offer, self._values)
            offer.have = have
        if offer.have is None:
            return self._told(client, name, await self._replied(owed, name, offer))
        client.following += 1
        try:
            outcome = await self._replied(owed, name, offer)
            if outcome.verdict not in (GO, WORKING):
                outcome.tasks = await self._next_tasks(client, set(offer.have))
        finally:
            client.following -= 1
            client.news.set()  # a poll may have held back
        failpoint("reply.before-answer")
        return self._told(client, name, outcome)

    async def _replied(self, owed: _Owed | None, name: str, offer: Offer) -> Outcome:
        if owed is None:
            return self._unwanted(name)
        if owed.submitted:
            return await self._decision(name)
        if offer.failure is not None:
            if owed.upload is not None:  # it had begun to send an answer
                owed.upload.abort()
                owed.upload = None
            return await self._submit(owed, Failed(name, _failure(offer.failure)))
        metrics = metrics_of(offer, owed.door.room.encoded, self._values)
        return await self._checked(owed, lambda: self._take(owed, offer, metrics))

    async def _take(self, owed: _Owed, offer: Offer, metrics: dict[str, object] | None) -> Outcome:
        """Admits an offer, and its data where it came along. Raises `Rejected` or `WireError`."""
        task = owed.task
        schema = await self._headers.read(offer.header, owed.door.travels)
        if owed.submitted:  # meanwhile, by another request
            return await self._decision(task.id)
        if not self._is_owed(owed):
            return self._unwanted(task.id)
        if offer.size != schema.nbytes:
            raise WireError(f"the offer is of {offer.size} bytes, its header describes {schema.nbytes}")
        carries = task.kind in (Kind.FIT, Kind.PARAMETERS)
        content = f"{task.id}-{secrets.token_hex(4)}" if carries else None
        taken = owed.door.metrics(metrics or {})
        left_out = max(offer.surplus, 0) + len(metrics or {}) - len(taken)
        if left_out or metrics is None:
            all_of_them = f"all {len(offer.metrics):,} bytes of metrics"
            self._surplus.say(task.client, task.kind, all_of_them if metrics is None else f"{left_out:,} metrics")
        reply = Reply(offer.num_examples, offer.loss, {**taken}, content)
        owed.door.admit(reply, schema)
        if content is None:
            return await self._submit(owed, Replied(task.id, reply))
        upload = owed.upload
        again = upload is not None and upload.received and offer.data is not None  # a part has come; now all of it does
        if upload is None or upload.schema != schema or not _same(upload.reply, reply) or again:
            if upload is not None:
                upload.abort()
            check = owed.door.value_check(schema, self._given(owed))
            digest = hasher() if self._gate is not None and offer.data is None else None
            upload = owed.upload = Upload(self._contents, content, schema, reply, check, digest)
        if offer.data is None and schema.nbytes:
            failpoint("upload.offered")
            return Outcome(GO, offset=upload.received)
        upload.feed(offer.data or b"")
        return await self._finish(owed, upload, Commit(offer.crc32))  # the message was signed as a whole

    async def _piece(self, request: Request) -> Response:
        """Takes the next piece of an offer that is too large for something on the way."""
        client, name = self._client(request), request.path_params["task"]
        owed, offset = self._owed_to(client).get(name), _offset(request.path_params["offset"])
        if owed is None or owed.submitted:
            await self._reception.drain(request)
            return self._told(client, name, self._unwanted(name) if owed is None else await self._decision(name))
        data = await self._reception.body(request, PART)
        if owed.submitted:  # meanwhile, by another request
            return self._told(client, name, await self._decision(name))
        if not self._is_owed(owed):  # a draft of it would lie there for ever
            return self._told(client, name, self._unwanted(name))
        if offset + len(data) > self._longest:
            raise Refused(413, f"an offer has at most {self._longest:,} bytes")
        if offset == 0:
            if owed.draft is not None:
                owed.draft.abort()
            owed.draft = Draft(self._contents, f"{owed.task.id}-offer-{secrets.token_hex(4)}")
        draft = owed.draft
        if draft is None or draft.received != offset:
            return self._told(client, name, Outcome(GO, "not the next piece of the offer; begin it anew", 0))
        draft.feed(bytes(data))
        return self._told(client, name, Outcome(GO, offset=draft.received))

    def _given(self, owed: _Owed) -> tuple[Schema, Source] | None:
        """What the client of a task was given, where its update is measured against it."""
        if owed.content is None or owed.door.max_norm is None:
            return None
        content = self._contents.open(owed.content)
        return content.schema, content.source

    async def _data(self, request: Request) -> Response:
        client, name = self._client(request), request.path_params["task"]
        owed, offset = self._owed_to(client).get(name), _offset(request.path_params["offset"])
        if owed is None or owed.upload is None or owed.submitted:
            await self._reception.drain(request)
            return self._told(client, name, self._unwanted(name) if owed is None else _NO_OFFER)
        upload = owed.upload
        if declared_length(request) > PART:
            raise Refused(413, f"a part has at most {PART} bytes and says how many")
        if offset != upload.received:
            await self._reception.drain(request)
            return self._told(client, name, Outcome(GO, "not the next byte", upload.received))

        async def take() -> Outcome:
            at = offset  # of the next byte here: a copy of this request, or one from before, may be read at the same time
            try:
                async for chunk in self._reception.stream(request):
                    if upload is not owed.upload or at != upload.received:  # withdrawn, or another request's by now
                        await self._reception.drain(request)
                        if name not in self._owed_to(client):
                            return self._unwanted(name)
                        return Outcome(GO, "begun anew", upload.received if upload is owed.upload else 0)
                    upload.feed(chunk)
                    at += len(chunk)
                    failpoint("upload.receiving")
            except Refused:  # these were not the bytes that its sender has signed
                if upload is owed.upload:
                    upload.abort()
                    owed.upload = None
                raise
            return Outcome(GO, offset=upload.received)

        return self._told(client, name, await self._checked(owed, take, request))

    async def _commit(self, request: Request) -> Response:
        client, name = self._client(request), request.path_params["task"]
        message = decode(await self._reception.body(request, MAX_SMALL), Commit)
        owed = self._owed_to(client).get(name)
        if owed is None:
            return self._told(client, name, self._unwanted(name))
        if owed.submitted:
            return self._told(client, name, await self._decision(name))
        if owed.upload is None:
            return self._told(client, name, _NO_OFFER)
        upload = owed.upload
        outcome = await self._checked(owed, lambda: self._finish(owed, upload, message))
        failpoint("commit.before-answer")
        return self._told(client, name, outcome)

    def _told(self, client: Present, task: str, outcome: Outcome) -> Response:
        """The answer to a part of a reply; where it was not taken as it came, with a line in the log."""
        if outcome.why and outcome.verdict not in (Verdict.REJECTED, Verdict.NOTED):  # those are the run's to say
            self._conduct.say(client.name, f"{outcome.verdict} for {short(task)}: {outcome.why}")
        return _message(outcome)

    async def _checked(
        self, owed: _Owed, take: Callable[[], Awaitable[Outcome]], request: Request | None = None
    ) -> Outcome:
        """Does `take`; a reply that may not come in becomes a failed task, and the sender hears why."""
        try:
            return await take()
        except StoreError:
            _give_up(owed)
            raise
        except (Rejected, WireError) as error:
            _give_up(owed)
            if request is not None:
                await self._reception.drain(request)
            return await self._submit(owed, Failed(owed.task.id, Failure(FailureKind.REJECTED, str(error))))

    async def _finish(self, owed: _Owed, upload: Upload, commit: Commit) -> Outcome:
        failpoint("upload.before-commit")
        if not upload.commit(commit.crc32, commit.blake3):
            owed.upload = None
            return Outcome(GO, "the data was damaged on its way", 0)
        failpoint("upload.after-commit")
        return await self._submit(owed, Replied(owed.task.id, upload.reply))

    async def _submit(self, owed: _Owed, event: Replied | Failed) -> Outcome:
        """Hands an answer to the run's loop, or to whoever asked outside of it, and waits for what becomes of it."""
        name = owed.task.id
        if owed.submitted:  # another request was faster
            return await self._decision(name)
        if self._away or self._over is not None:  # nobody will decide any more: its sender asks again, and hears why
            return Outcome(WORKING)
        owed.submitted = True
        if owed.draft is not None:
            owed.draft.abort()
            owed.draft = None
        if name in self._asked:
            answer = event.failure if isinstance(event, Failed) else self._answer(event.reply)
            self._answer_asked(name, answer)
            return Outcome(Verdict.ACCEPTED if isinstance(event, Replied) else Verdict.NOTED)
        self._conduct.serves(owed.task.client)
        self._waiting[name] = asyncio.get_running_loop().create_future()
        self.put(event)
        return await self._decision(name)

    async def _decision(self, name: str) -> Outcome:
        decided = self._waiting.get(name)
        if decided is None:
            return self._unwanted(name)
        try:
            return await asyncio.wait_for(asyncio.shield(decided), PATIENCE)
        except TimeoutError:
            return Outcome(WORKING)

    def _resolve(self, name: str, outcome: Outcome) -> None:
        decided = self._waiting.pop(name, None)
        if decided is not None and not decided.done():
            decided.set_result(outcome)
        self._take_back(name)
        self._settled[name] = None
        if len(self._settled) > SETTLED:
            self._settled.popitem(last=False)

    def _unwanted(self, name: str) -> Outcome:
        """Why an answer to this task is not taken. Raises `Refused` where it will be, in a moment."""
        if name in self._pending:
            raise Refused(503, "the server is starting; try again", expected=True)
        if not name.startswith(f"{self._run}."):
            return Outcome(Verdict.STALE, f"the task belongs to another run; this one is {self._run}")
        if name.isascii() and name.isprintable() and self._store.accepted(name):  # a database may refuse to look for others
            return Outcome(Verdict.ALREADY)
        return Outcome(Verdict.STALE, "this answer is not wanted: its round has closed, or the task was never this client's")

    def _answer(self, reply: Reply) -> Answer:
        arrays = []
        if reply.content is not None:
            content = self._contents.open(reply.content)
            arrays = Params.from_bytes(bytearray(content.read(0, content.size))).arrays()
            content.close()
            self._contents.remove(reply.content)
        return Answer(arrays, reply.num_examples, reply.loss, scalars(reply.metrics))

    def _answer_asked(self, name: str, answer: Answer | Failure) -> None:
        asked = self._asked.get(name)
        if asked is not None and not asked.done():
            asked.set_result(answer)


def _give_up(owed: _Owed) -> None:
    """Forgets what has come of an answer; its sender begins anew."""
    if owed.upload is not None:
        owed.upload.abort()
        owed.upload = None
    if owed.draft is not None:
        owed.draft.abort()
        owed.draft = None


def _same(one: Reply, other: Reply) -> bool:
    # as bytes: a NaN is like no other
    return encode(replace(one, content=None)) == encode(replace(other, content=None))


def _failure(told: FailureHead) -> Failure:
    """A failure in its client's words, without the U+0000 that PostgreSQL takes in no text."""
    known = FailureKind.REJECTED, FailureKind.EMPTY
    kind = next((kind for kind in known if kind == told.kind), FailureKind.RAISED)
    return Failure(kind, told.text[:4000].replace("\0", "\\0"), told.detail[:40_000].replace("\0", "\\0"))


def _message(message: Next | Outcome | Registered) -> Response:
    return Response(encode(message), media_type="application/msgpack", headers={"cache-control": "no-store"})


async def _wait(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        pass


async def _stream(content: Content, start: int) -> AsyncIterator[bytes]:
    try:
        while start < content.size:
            block = content.read(start, min(INLINE, content.size - start))
            start += len(block)
            failpoint("content.sending")
            yield block
    finally:
        content.close()


def _offset(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):  # beyond 4,300 digits, int() itself refuses
        raise Refused(400, f"{short(text)} is not the number of a byte")
    return int(text)


def _range_start(header: str, size: int) -> int:
    match = re.fullmatch(r"bytes=(\d{1,18})-", header.strip())
    if match is None or int(match[1]) >= max(size, 1):
        raise Refused(416, f"of {size} bytes only 'Range: bytes=N-' with N below that can be served, not {header[:80]!r}")
    return int(match[1])
