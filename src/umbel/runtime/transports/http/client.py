"""A client's life: it registers, takes tasks, answers them, and outlives whatever happens to its server.

One thread polls all the time, also during training: that is the heartbeat, and how news comes. The calling thread does the
tasks, one after another, and keeps each answer until the server has acknowledged it.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial

import msgspec
import numpy as np

from umbel.errors import ServerRefused, ServerUnreachable, WireError
from umbel.params import Params, gather
from umbel.reports import Room
from umbel.rounds.messages import Failure, FailureKind, Kind, Verdict
from umbel.runtime.failpoints import failpoint
from umbel.runtime.log import configure, logger
from umbel.runtime.security.signatures import hasher
from umbel.runtime.seeding import seed_generators
from umbel.runtime.transports.http.link import Foreign, Link, RequestRefused, TooLarge, Unknown, Unreachable, whole
from umbel.runtime.transports.http.protocol import (
    GO,
    INLINE,
    PART,
    WORKING,
    ContentHead,
    FailureHead,
    Offer,
    Outcome,
    TaskHead,
    encode,
)
from umbel.secret import Secret
from umbel.training import Answer, Client, Encoding, run_task
from umbel.wire import encode_header, short

__all__ = ["Patience", "serve"]

ENVELOPE = 4096  # bytes of an offer beside its header, metrics and data
LONGEST_PAUSE = 5.0  # seconds; the server's grace period is longer
SAY_EVERY = 10.0  # seconds between two lines about a server that does not answer
WRONG = 10.0  # seconds that somebody else may answer at the server's address, before it has ever answered itself


class Patience:
    """How long to go on trying. Counts failures since the last success; None means without limit."""

    def __init__(self, address: str, max_retries: int | None, max_wait_time: float | None) -> None:
        self._address = address
        self._max_retries = max_retries
        self._max_wait_time = max_wait_time
        self._lock = threading.Lock()
        self._jitter = random.Random()
        self._failures = 0
        self._met = False  # the server has answered
        self._since = self._said_at = 0.0

    def left(self) -> float | None:
        """Seconds until patience ends; None where it does not."""
        with self._lock:
            if self._max_wait_time is None:
                return None
            return self._max_wait_time - (time.monotonic() - self._since if self._failures else 0.0)

    def succeeded(self) -> None:
        with self._lock:
            self._met = True
            if self._failures:
                logger.info("Connected to the server at %s", self._address)
            self._failures = 0

    def failed(self, why: Exception) -> float:
        """Notes a failure; the seconds to wait before the next try.

        Raises `ServerUnreachable` when it was the last, and `ServerRefused` where there is no such server at the address.
        """
        with self._lock:
            now = time.monotonic()
            if not self._failures:
                self._since, self._said_at = now - getattr(why, "waited", 0.0), now - SAY_EVERY
            self._failures += 1
            waited = now - self._since
            if isinstance(why, Foreign) and why.lasting and not self._met and waited >= WRONG:
                raise ServerRefused(str(why)) from None
            too_often = self._max_retries is not None and self._failures > self._max_retries
            too_long = self._max_wait_time is not None and waited >= self._max_wait_time
            if too_often or too_long:
                tried = f"{self._failures} tries in {waited:.1f} s"
                asked = "" if isinstance(why, Foreign) else "; is it running, and reachable?"
                raise ServerUnreachable(f"no server at {self._address} ({why}) after {tried}{asked}") from None
            if now - self._said_at >= SAY_EVERY:
                logger.info("Waiting for the server at %s: %s (for %.0f s)", self._address, why, waited)
                self._said_at = now
            pause = min(LONGEST_PAUSE, 0.1 * 2.0 ** min(self._failures - 1, 10))
            if self._max_wait_time is not None:
                pause = min(pause, max(self._max_wait_time - waited, 0.01))
            return pause * self._jitter.uniform(0.5, 1.0)


class _Over(Exception):
    """The run is over."""


def serve(
    link: Link, client: Client, patience: Patience, *, repeats: bool = False, secret: Secret | None = None
) -> str:
    """Does tasks until the run is over; returns why it is. `repeats` seeds the client's draws before each task; each has a
    secret of its own, derived from `secret`.

    Raises `ServerUnreachable` when patience ends and `ServerRefused` when the server will not have this client.
    """
    return _Life(link, client, patience, repeats, secret or Secret.new()).live()


class _Life:
    def __init__(self, link: Link, client: Client, patience: Patience, repeats: bool, secret: Secret) -> None:
        self._repeats = repeats
        self._secret = secret
        self._link = link
        self._client = client
        self._patience = patience
        self._news: queue.SimpleQueue[TaskHead | BaseException] = queue.SimpleQueue()
        self._have: dict[str, bool] = {}  # tasks taken and not yet acknowledged; True once the answer is on its way
        self._memory: dict[str, dict[str, object]] = {}  # what transforms remember here
        self._done: deque[str] = deque(maxlen=64)  # tasks lately decided
        self._taking = threading.Lock()
        self._stop = threading.Event()

    def live(self) -> str:
        poller = threading.Thread(target=self._poll, name="umbel-poll", daemon=True)
        poller.start()
        try:
            while True:
                news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                self._do(news)
        except _Over as over:
            return str(over)
        finally:
            self._stop.set()
            self._say_goodbye()
            poller.join(2.0)
            self._link.close()

    # ---- the polling thread

    def _poll(self) -> None:
        try:
            self._register()
            while not self._stop.is_set():
                try:
                    news = self._link.next(self._have.copy())
                except Unreachable as error:
                    self._stop.wait(self._patience.failed(error))
                    continue
                except Unknown:
                    self._register()
                    continue
                self._patience.succeeded()
                for name in news.cancelled:
                    if self._have.pop(name, None) is False:
                        logger.info("The server no longer waits for %s", _readable(name))
                self._take(news.tasks)
                if news.over is not None:
                    self._stop.set()
                    self._news.put(_Over(news.over))
        except BaseException as error:  # whatever ends this thread ends the client
            self._stop.set()
            self._news.put(error)

    def _take(self, heads: Iterable[TaskHead]) -> None:
        """Takes tasks on, from either thread; one that has come before is not done again."""
        with self._taking:
            for head in heads:
                if head.id not in self._have and head.id not in self._done:
                    self._have[head.id] = False
                    self._news.put(head)

    def _register(self) -> None:
        while not self._stop.is_set():
            try:
                self._link.register()
            except Unreachable as error:
                self._stop.wait(self._patience.failed(error))
            else:
                self._patience.succeeded()
                failpoint("client.registered")
                return

    def _say_goodbye(self) -> None:
        failpoint("client.before-goodbye")
        with contextlib.suppress(Unreachable, Unknown, RequestRefused, ServerRefused):  # then it notices by itself
            self._link.leave()

    # ---- the calling thread

    def _do(self, head: TaskHead) -> None:
        if head.id not in self._have:
            return  # cancelled while it waited here
        configure()  # user code may have set up its logs since
        logger.info("Received %s", _readable(head.id))
        failpoint("client.task-received")
        started = time.monotonic()
        try:
            params = self._fetch(head.content)
            beside = {part: self._fetch(content) for part, content in head.parts.items()}
            if params is None or None in beside.values():
                return
            if self._repeats and head.seed is not None:
                self._seed(head.seed, head.round)
            if self._client.context is not None:
                self._client.context.make_secret = partial(self._secret.derive, "task", head.id)
            failpoint("client.before-training")
            given = {part: content for part, content in beside.items() if content is not None}
            if self._client.context is not None:
                self._client.context.parts = {part: content.arrays() for part, content in given.items()}
            encoding = self._encoding(head, params, given) if head.transforms or given else None
            answer = run_task(self._client, head.kind, params.arrays(), head.config, encoding)
            failpoint("client.after-training")
            del params, encoding, beside, given  # an answer holds what it needs of it
            if self._client.context is not None:
                self._client.context.parts, self._client.context.sent = {}, {}
            if isinstance(answer, Failure) and answer.kind is FailureKind.EMPTY:
                logger.info("No initial parameters: %s", answer.text)
            elif isinstance(answer, Failure):
                logger.error("%s failed: %s", _readable(head.id), answer.text)
                if answer.detail:
                    logger.error("%s", answer.detail.rstrip())
            else:
                self._say_what_is_left_out(head, answer)
            if head.id in self._have:
                self._have[head.id] = True
            seconds = time.monotonic() - started
            verdict = self._tell(head, answer)
            if isinstance(answer, Answer) and answer.memory and verdict in (Verdict.ACCEPTED, Verdict.ALREADY):
                self._memory = answer.memory
            failpoint("client.acknowledged")
            said = "Reported" if isinstance(answer, Failure) else "Sent"
            logger.info("%s %s, which took %.1f s: %s", said, _readable(head.id), seconds, verdict)
        finally:
            self._have.pop(head.id, None)

    def _say_what_is_left_out(self, head: TaskHead, answer: Answer) -> None:
        room = _room(head)
        taken = room.take(answer.metrics)
        surplus = [name for name in answer.metrics if name not in taken]
        if surplus:
            logger.warning(
                "%s: the server has room for %s metrics of %s bytes; %d are left out, the first of them %s",
                _readable(head.id),
                f"{room.metrics:,}",
                f"{room.size:,}",
                len(surplus),
                short(surplus[0]),
            )

    def _encoding(self, head: TaskHead, params: Params, given: Mapping[str, Params]) -> Encoding:
        """What it takes to make what travels. Transforms need a copy of what the client is given: it may train in that."""
        base = params
        if head.transforms:
            base = Params(params.schema, params.buffer.copy())
            base.buffer.flags.writeable = False
        seed = head.seed if self._repeats else None
        where = seed, self._link.name, head.round
        secret, beside = partial(self._secret.derive, "task", head.id), {part: each.schema for part, each in given.items()}
        return Encoding(head.transforms, base, self._memory, *where, secret, beside)

    def _seed(self, seed: int, number: int) -> None:
        seed_generators(seed, "client", self._link.name, number)
        if self._client.context is not None:
            self._client.context.seed, self._client.context.round = seed, number

    def _fetch(self, head: ContentHead | None) -> Params | None:
        """The parameters of a task, as arrays of the client's own; None where the server no longer has them."""
        if head is None:
            return Params.of([])
        data, received = np.empty(head.size, np.uint8), 0  # not a bytearray, which is zeroed first
        while True:
            try:
                received = self._link.fetch(head, data, received)
                failpoint("client.fetched")
                if received == head.size:
                    return whole(head, data)
                raise Unreachable("the connection broke")
            except WireError as error:
                received = 0
                self._pause(Unreachable(str(error)))
            except Unreachable as error:
                self._pause(error)
            except Unknown as error:
                self._pause(Unreachable(str(error)))
            except RequestRefused as error:
                logger.warning("The task cannot be done: %s", error)
                return None

    def _tell(self, head: TaskHead, answer: Answer | Failure) -> str:
        """Sends an answer until the server has decided about it; returns its words."""
        while not self._stop.is_set():
            try:
                outcome = self._send(head, answer)
            except TooLarge:
                continue  # in smaller parts, from where the server has it
            except (Unreachable, Unknown) as error:
                self._pause(error)
                continue
            except RequestRefused as error:
                if isinstance(answer, Failure):
                    return f"refused: {error}"
                logger.error("The server refused %s: %s", _readable(head.id), error)
                answer = Failure(FailureKind.REJECTED, str(error))
                continue
            self._patience.succeeded()
            if outcome.verdict == WORKING:
                continue
            if outcome.verdict in (Verdict.REJECTED, Verdict.STALE) and not isinstance(answer, Failure):
                logger.warning("The server did not take %s: %s", _readable(head.id), outcome.why)
            self._done.append(head.id)
            self._take(outcome.tasks)
            return outcome.verdict
        return "not sent: the run is over"

    def _send(self, head: TaskHead, answer: Answer | Failure) -> Outcome:
        if isinstance(answer, Failure):
            report = FailureHead(answer.kind, answer.text, answer.detail)
            return self._link.offer(head.id, Offer(failure=report, have=[*self._have]))
        schema, taken = answer.schema, _room(head).take(answer.metrics)
        carries = head.kind in (Kind.FIT, Kind.PARAMETERS)
        header, metrics = encode_header(schema) if carries else b"", encode({**taken})
        room = self._link.fits - len(header) - len(metrics) - ENVELOPE
        small = carries and schema.nbytes <= min(INLINE, room)
        data = b"".join(gather(schema, answer.arrays, 0, schema.nbytes)) if small else None
        outcome = self._link.offer(
            head.id,
            Offer(
                num_examples=answer.num_examples,
                loss=answer.loss,
                metrics=msgspec.Raw(metrics),
                header=header,
                size=schema.nbytes,
                data=data,
                crc32=zlib.crc32(data or b""),
                have=[*self._have] if small or not carries else None,  # who sends much is not in a hurry
                surplus=len(answer.metrics) - len(taken),
            ),
        )
        if small and outcome.verdict == GO:  # damaged on its way
            raise Unreachable(outcome.why)
        failpoint("client.offered")
        while outcome.verdict == GO and outcome.offset < schema.nbytes:
            begin = outcome.offset
            end = min(begin + min(PART, self._link.fits), schema.nbytes)
            outcome = self._link.send(head.id, begin, end - begin, gather(schema, answer.arrays, begin, end))
            failpoint("client.part-sent")
            if outcome.verdict == GO and outcome.offset <= begin:  # it wants the offer again, not the same part for ever
                raise Unreachable(outcome.why)
        if outcome.verdict == GO:
            crc32, digest = 0, hasher() if self._link.signs else None
            for view in gather(schema, answer.arrays, 0, schema.nbytes):
                crc32 = zlib.crc32(view, crc32)
                if digest is not None:
                    digest.update(view)
            failpoint("client.before-commit")
            outcome = self._link.commit(head.id, crc32, b"" if digest is None else digest.digest())
            failpoint("client.after-commit")
        if outcome.verdict == GO:  # damaged on its way: from the start
            raise Unreachable(outcome.why or "the data was damaged on its way")
        return outcome

    def _pause(self, error: Exception) -> None:
        """Waits a little; the polling thread registers anew where that is needed. Raises `_Over` when all is over."""
        if self._stop.wait(self._patience.failed(error)):
            while not isinstance(news := self._news.get(), BaseException):
                pass  # a task that nobody will do any more
            raise news


def _room(head: TaskHead) -> Room:
    """How much of an answer's metrics the server takes."""
    return Room(head.max_metrics, head.max_metrics_size)


def _readable(task_id: str) -> str:
    """What a task id says: "run.3.fit.0.1" → "fit of round 3"."""
    parts = task_id.split(".")
    return f"{parts[2]} of round {parts[1]}" if len(parts) == 5 else "a question"
