"""The routes by which a client hears what it is owed, and gets what it is to begin from. Knows requests and an event loop.

A poll is answered at once where there is news (`owed.py` says what is), and kept open otherwise. Where rounds are short, the
answer to a reply brings the next task, and the poll has nothing to do.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from umbel.runtime.contents import Content, Contents
from umbel.runtime.failpoints import failpoint
from umbel.runtime.transports.http.owed import Debts, Owed
from umbel.runtime.transports.http.protocol import FOLLOW, INLINE, POLL, ContentHead, Next, Poll, Refused, TaskHead, decode
from umbel.runtime.transports.http.reception import Reception
from umbel.runtime.transports.http.requests import Request, Response, message
from umbel.runtime.transports.http.sessions import Present, Sessions
from umbel.update import MODEL

__all__ = ["MAX_POLL", "Ending", "Polls"]

MAX_POLL = 3 * 2**12  # bytes: the names of MAX_TASKS tasks


@dataclass(slots=True)
class Ending:
    """Whether the run is over, and why; or whether the server is `away`: about to end, while the run goes on later."""

    over: str | None = None
    away: bool = False

    def __bool__(self) -> bool:
        return self.away or self.over is not None

    def stay(self) -> None:
        """Raises `Refused` where the server is about to end."""
        if self.away:
            raise Refused(503, "the server is about to restart; try again soon")


class Polls:
    """Answers polls, and sends contents. `seed` is the run's, for clients that repeat their draws."""

    def __init__(
        self,
        debts: Debts,
        contents: Contents,
        sessions: Sessions,
        reception: Reception,
        ending: Ending,
        *,
        seed: int,
    ) -> None:
        self._debts, self._contents = debts, contents
        self._sessions, self._reception, self._ending = sessions, reception, ending
        self._seed = seed
        self._heads: dict[str, ContentHead] = {}

    def client(self, request: Request) -> Present:
        """Whose request this is. Raises `Refused`."""
        client = self._reception.client(request)
        self._ending.stay()
        return client

    async def next(self, request: Request) -> Response:
        client = self.client(request)
        have = decode(await self._reception.body(request, MAX_POLL), Poll).have
        session, started = client.session, time.monotonic()
        client.polls += 1
        try:
            while True:
                self._sessions.of(session, held=True)  # raises where it is fenced by now, or has left
                self._ending.stay()
                news = self._debts.news(client.name, have, before=started, follows=client.following > 0)
                left = started + POLL - time.monotonic()
                if self._ending.over is not None or news or left <= 0:
                    answer = Next([self._head(owed) for owed in news.tasks], news.cancelled, self._ending.over)
                    if self._ending.over is None and left > 0 and not self._debts.tell(news):
                        await self._reception.keep_waiting(request)
                    return message(answer)
                await client.news.wait(left)
        finally:
            client.polls -= 1
            client.seen_at = time.monotonic()

    async def following(self, client: Present, have: list[str]) -> list[TaskHead]:
        """What the client is owed next, as soon as there is something; it saves a small round its poll."""
        session, until = client.session, time.monotonic() + FOLLOW
        while not self._ending and client.session == session:
            new = self._debts.new(client.name, have, before=until)
            left = until - time.monotonic()
            if new or left <= 0:
                for owed in new:
                    owed.told_at = time.monotonic()
                return [self._head(owed) for owed in new]
            await client.work.wait(left)
        return []

    def _head(self, owed: Owed) -> TaskHead:
        task = owed.task
        heads = {part: self._content_head(name) for part, name in owed.given.items()}
        content, room, transforms = heads.pop(MODEL, None), owed.door.room, owed.door.transforms
        return TaskHead(task.id, task.kind, task.round, {**task.config}, content, self._seed, *room, transforms, heads)

    def _content_head(self, name: str) -> ContentHead:
        if name not in self._heads:
            if len(self._heads) > 16:
                self._heads.clear()
            content = self._contents.open(name)
            small = content.read(0, content.size) if content.size <= INLINE else None
            self._heads[name] = ContentHead(name, content.size, content.crc32, small)
            content.close()
        return self._heads[name]

    async def content(self, request: Request) -> Response:
        client, name = self.client(request), request.parameters["name"]
        if not any(name in owed.given.values() for owed in self._debts.to(client.name).values()):
            raise Refused(404, f"no task of this client has the content {name!r}")
        content = self._contents.open(name)
        start = _range_start(request.headers.get("range", "bytes=0-"), content.size)
        headers = {
            "content-length": str(content.size - start),
            "content-type": "application/octet-stream",
            "content-range": f"bytes {start}-{content.size - 1}/{content.size}",
            "cache-control": "no-store",
        }
        return Response(206 if start else 200, headers, _stream(content, start))


async def _stream(content: Content, start: int) -> AsyncGenerator[bytes, None]:
    try:
        while start < content.size:
            block = content.read(start, min(INLINE, content.size - start))
            start += len(block)
            failpoint("content.sending")
            yield block
    finally:
        content.close()


def _range_start(header: str, size: int) -> int:
    match = re.fullmatch(r"bytes=(\d{1,18})-", header.strip())
    if match is None or int(match[1]) >= max(size, 1):
        raise Refused(416, f"of {size} bytes only 'Range: bytes=N-' with N below that can be served, not {header[:80]!r}")
    return int(match[1])
