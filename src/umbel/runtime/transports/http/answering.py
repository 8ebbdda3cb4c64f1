"""The routes by which a client answers a task. Knows requests and an event loop.

Each route reads one message of an answer, lets `replies.py` say what that comes to, and has its sender wait until what
becomes of the answer is decided: by the run's loop, once the journal has it, or by the question outside of the rounds.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from umbel.errors import Rejected, StoreError, WireError
from umbel.rounds.messages import Failed, Replied, Verdict
from umbel.runtime.failpoints import failpoint
from umbel.runtime.transports.http.asking import Questions
from umbel.runtime.transports.http.bell import Bell
from umbel.runtime.transports.http.headers import Headers
from umbel.runtime.transports.http.owed import Debts, Owed
from umbel.runtime.transports.http.polling import Ending, Polls
from umbel.runtime.transports.http.protocol import GO, PART, WORKING, Commit, Offer, Outcome, Refused, decode
from umbel.runtime.transports.http.reception import Reception
from umbel.runtime.transports.http.refusals import Refusals
from umbel.runtime.transports.http.replies import NO_OFFER, Replies, reject
from umbel.runtime.transports.http.requests import MAX_SMALL, Request, Response, message
from umbel.runtime.transports.http.sessions import Present
from umbel.wire import short

__all__ = ["Answers"]

PATIENCE = 25.0  # seconds a request may wait for the run's loop before it is told to ask again

Taken = Outcome | Replied | Failed


class Answers:
    """Takes answers. `put` has what the run's loop decides about; `accepted(task)` says whether a reply has counted."""

    def __init__(
        self,
        run: str,
        debts: Debts,
        replies: Replies,
        questions: Questions,
        polls: Polls,
        reception: Reception,
        refusals: Refusals,
        ending: Ending,
        *,
        put: Callable[[Replied | Failed], None],
        accepted: Callable[[str], bool],
    ) -> None:
        self._run, self._debts, self._replies, self._questions = run, debts, replies, questions
        self._polls, self._reception, self._refusals, self._ending = polls, reception, refusals, ending
        self._put, self._accepted = put, accepted
        self._headers = Headers()
        self._waiting: dict[str, _Decision] = {}

    def decide(self, task: str, outcome: Outcome) -> None:
        """Tells whoever waits what has become of the answer to this task, and strikes the task from what is owed."""
        decided = self._waiting.pop(task, None)
        if decided is not None:
            decided.tell(outcome)
        self._debts.decide(task)

    def end_waits(self) -> None:
        """Ends every wait: no answer is decided any more, so each sender asks again, and hears why."""
        for decided in self._waiting.values():
            decided.tell(Outcome(WORKING))

    async def reply(self, request: Request) -> Response:
        client, name = self._polls.client(request), request.parameters["task"]
        if name not in self._debts.to(client.name):  # then it does not matter what it says, and nothing of it is kept
            await self._reception.drain(request)
            return self._respond(client, name, self._why_unwanted(name))
        offer = decode(await self._reception.body(request, self._replies.longest), Offer, self._replies.values)
        owed = self._debts.to(client.name).get(name)
        if offer.pieces and owed is not None and not owed.submitted:
            self._reception.hold(request, min(offer.pieces, self._replies.longest))
            whole = self._replies.whole_offer(owed, offer)
            if isinstance(whole, Outcome):
                return self._respond(client, name, whole)
            offer = whole
        if offer.have is None:
            return self._respond(client, name, await self._take_offer(owed, name, offer))
        client.following += 1
        brought = False
        try:
            outcome = await self._take_offer(owed, name, offer)
            if outcome.verdict not in (GO, WORKING):
                outcome.tasks = await self._polls.following(client, offer.have)
                brought = bool(outcome.tasks)
        finally:
            client.following -= 1
            if not brought:
                client.news.ring()  # a poll may have held back
        failpoint("reply.before-answer")
        return self._respond(client, name, outcome)

    async def _take_offer(self, owed: Owed | None, name: str, offer: Offer) -> Outcome:
        if owed is None or owed.submitted:
            return await self._explain(owed, name)
        if offer.failure is not None:
            return await self._submit(owed, self._replies.fail(owed, offer.failure))
        metrics = self._replies.metrics(owed, offer)

        async def take() -> Taken:
            schema = await self._headers.read(offer.header, owed.door.travels)
            if owed.submitted or not self._debts.is_owed(owed):  # meanwhile, by another request
                return await self._explain(owed, name)
            return self._replies.offer(owed, offer, schema, metrics)

        return await self._submit_taken(owed, take)

    async def piece(self, request: Request) -> Response:
        """Takes the next piece of an offer that is too large for something on the way."""
        client, name = self._polls.client(request), request.parameters["task"]
        owed, offset = self._debts.to(client.name).get(name), _offset(request.parameters["offset"])
        if owed is None or owed.submitted:
            await self._reception.drain(request)
            return self._respond(client, name, await self._explain(owed, name))
        data = await self._reception.body(request, PART)
        if owed.submitted or not self._debts.is_owed(owed):  # meanwhile; a draft of it would lie there for ever
            return self._respond(client, name, await self._explain(owed, name))
        return self._respond(client, name, self._replies.piece(owed, offset, bytes(data)))

    async def data(self, request: Request) -> Response:
        client, name = self._polls.client(request), request.parameters["task"]
        owed, offset = self._debts.to(client.name).get(name), _offset(request.parameters["offset"])
        if owed is None or owed.upload is None or owed.submitted:
            await self._reception.drain(request)
            return self._respond(client, name, self._why_unwanted(name) if owed is None else NO_OFFER)
        upload = owed.upload
        if request.length > PART:
            raise Refused(413, f"a part has at most {PART} bytes and says how many")
        if offset != upload.received:
            await self._reception.drain(request)
            return self._respond(client, name, Outcome(GO, "not the next byte", upload.received))

        async def take() -> Outcome:
            feed = self._replies.receive(owed, offset)
            try:
                async for chunk in self._reception.stream(request):
                    broken = feed(chunk)
                    if broken is not None:
                        await self._reception.drain(request)
                        return broken if name in self._debts.to(client.name) else self._why_unwanted(name)
            except Refused:  # these were not the bytes that its sender has signed
                if upload is owed.upload:
                    owed.withdraw_upload()
                raise
            return Outcome(GO, offset=upload.received)

        return self._respond(client, name, await self._submit_taken(owed, take, request))

    async def commit(self, request: Request) -> Response:
        client, name = self._polls.client(request), request.parameters["task"]
        commit = decode(await self._reception.body(request, MAX_SMALL), Commit)
        owed = self._debts.to(client.name).get(name)
        if owed is None or owed.submitted:
            return self._respond(client, name, await self._explain(owed, name))
        if owed.upload is None:
            return self._respond(client, name, NO_OFFER)
        upload = owed.upload

        async def take() -> Taken:
            return self._replies.commit(owed, upload, commit)

        outcome = await self._submit_taken(owed, take)
        failpoint("commit.before-answer")
        return self._respond(client, name, outcome)

    def _respond(self, client: Present, task: str, outcome: Outcome) -> Response:
        """The response to one message of an answer. Where the server did not take it as it came, the log has a line."""
        if outcome.why and outcome.verdict not in (Verdict.REJECTED, Verdict.NOTED):  # those are the run's to say
            self._refusals.say(client.name, f"{outcome.verdict} for {short(task)}: {outcome.why}")
        return message(outcome)

    async def _submit_taken(
        self, owed: Owed, take: Callable[[], Awaitable[Taken]], request: Request | None = None
    ) -> Outcome:
        """Submits what `take` comes to. An answer that may not come in makes its task fail, and its sender hears why."""
        try:
            taken = await take()
        except StoreError:
            owed.withdraw()
            raise
        except (Rejected, WireError) as error:
            taken = reject(owed, error)
            if request is not None:
                await self._reception.drain(request)
        return taken if isinstance(taken, Outcome) else await self._submit(owed, taken)

    async def _submit(self, owed: Owed, event: Replied | Failed) -> Outcome:
        """Hands an answer to the run's loop, or to whoever asked outside of it, and waits for what becomes of it."""
        name = owed.task.id
        if owed.submitted:  # another request was faster
            return await self._decision(name)
        if self._ending:  # nobody will decide any more: its sender asks again, and hears why
            return Outcome(WORKING)
        owed.submitted = True
        owed.withdraw_draft()
        if name in self._questions:
            self._questions.answer(event)
            return Outcome(Verdict.ACCEPTED if isinstance(event, Replied) else Verdict.NOTED)
        self._refusals.serves(owed.task.client)
        self._waiting[name] = _Decision()
        self._put(event)
        return await self._decision(name)

    async def _explain(self, owed: Owed | None, name: str) -> Outcome:
        """The outcome of one more message of an answer that is with the run's loop, or is not owed any more."""
        return await self._decision(name) if owed is not None and owed.submitted else self._why_unwanted(name)

    async def _decision(self, name: str) -> Outcome:
        """Waits for what becomes of the answer that is with the run's loop; where none is, says why none is wanted."""
        decided = self._waiting.get(name)
        if decided is None:
            return self._why_unwanted(name)
        return await decided.wait(PATIENCE)

    def _why_unwanted(self, name: str) -> Outcome:
        """Why no answer to this task is wanted. Raises `Refused` where one will be, in a moment."""
        if self._debts.is_pending(name):
            raise Refused(503, "the server is starting; try again", expected=True)
        if not name.startswith(f"{self._run}."):
            return Outcome(Verdict.STALE, f"the task belongs to another run; this one is {self._run}")
        if name.isascii() and name.isprintable() and self._accepted(name):  # a database may refuse to look for others
            return Outcome(Verdict.ALREADY)
        return Outcome(Verdict.STALE, "this answer is not wanted: its round has closed, or the task was never this client's")


class _Decision:
    """What becomes of an answer, for every request that waits to hear of it."""

    __slots__ = ("_bell", "_outcome")

    def __init__(self) -> None:
        self._bell = Bell()
        self._outcome = Outcome(WORKING)

    def tell(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._bell.ring()

    async def wait(self, seconds: float) -> Outcome:
        """Waits for the outcome and returns it; `WORKING` where none has come within so many seconds."""
        await self._bell.wait(seconds)
        return self._outcome


def _offset(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):  # beyond 4,300 digits, int() itself refuses
        raise Refused(400, f"{short(text)} is not the number of a byte")
    return int(text)
