"""Who sent what, and what became of it: a record that can only grow, each line chained to the one before.

Knows lines and digests; knows no database. A line's `hash` is the BLAKE2b digest of all of its other fields and of the hash
of the line before (of the run's name, for the first). So a line that is changed, left out, added or moved breaks the chain
from there on; lines cut off at the end show by the last hash, which the server says when the run ends.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import msgspec

from umbel.errors import StoreError
from umbel.rounds.messages import (
    Command,
    Dispatch,
    Failed,
    Initialized,
    Lost,
    Publish,
    Replied,
    Reply,
    Reported,
    Settle,
    Stepped,
    Verdict,
)
from umbel.rounds.notices import TaskFailed, TaskSucceeded
from umbel.runtime.contents import Contents
from umbel.runtime.model import GlobalModel
from umbel.runtime.stores.base import Entry
from umbel.runtime.stores.codec import encode

__all__ = ["Auditor", "Line", "digest_of_file", "first_hash", "verify"]

REMEMBERED = 10_000  # tasks whose client is known


@dataclass(frozen=True, slots=True)
class Line:
    """One fact. `seq` numbers the journal's entry that it comes from; `time` is unix time.

    `verdict` is a `Verdict`, "version" for a new version of the model, or "lost" for files that were found damaged.
    `content` is the digest of the content file that was sent or made, `reply` the one of everything else in the reply
    (number of examples, loss, metrics).
    """

    number: int
    seq: int
    time: float
    client: str
    task: str
    verdict: str
    why: str
    content: bytes | None
    reply: bytes | None
    hash: bytes = b""

    def chained(self, run: str, before: bytes) -> Line:
        """The same line, with its hash after a line with the hash `before`."""
        fields = asdict(replace(self, hash=b""))
        return replace(self, hash=blake2b(encode([run, before, fields]), digest_size=32).digest())


class Auditor:
    """Makes the lines of one run. `last` is the newest line there is."""

    def __init__(self, run: str, contents: Contents, last: Line | None) -> None:
        self._run = run
        self._contents = contents
        self._clients: OrderedDict[str, str] = OrderedDict()  # task → client
        self.number = 0 if last is None else last.number
        self.head = first_hash(run) if last is None else last.hash

    def lines(self, entries: Iterable[tuple[int, Entry]], now: float) -> list[Line]:
        """The lines of numbered journal entries. The chain grows with `written`, once they are durable."""
        made, number, head = [], self.number, self.head
        for seq, entry in entries:
            for client, task, verdict, why, content, reply in self._facts(entry):
                number += 1
                line = Line(number, seq, now, client, task, verdict, why, content, reply).chained(self._run, head)
                made.append(line)
                head = line.hash
        return made

    def written(self, lines: Sequence[Line]) -> None:
        if lines:
            self.number, self.head = lines[-1].number, lines[-1].hash

    def _facts(self, entry: Entry) -> Iterator[tuple[str, str, str, str, bytes | None, bytes | None]]:
        for command in entry.commands:
            if isinstance(command, Dispatch):
                self._clients[command.task.id] = command.task.client
                if len(self._clients) > REMEMBERED:
                    self._clients.popitem(last=False)
        match entry.event:
            case Replied(task=task, reply=reply):
                yield (*self._describe_verdict(task, entry.commands), self._content(reply), _digest(reply))
            case Reported(replies=replies):
                verdict = Verdict.ACCEPTED if _clients(entry.commands) else Verdict.STALE
                for task, reply in replies:
                    client = self._clients.get(task, "")
                    yield client, task, verdict, "", self._content(reply), _digest(reply)
            case Failed(task=task):
                yield (*self._describe_verdict(task, entry.commands), None, None)
            case Initialized(given=True):
                yield self._version(0)
            case Stepped(version=version):
                yield self._version(version)
            case Lost(contents=contents, versions=versions):
                lost = [*map(GlobalModel.name, versions), *contents]
                yield "", "", "lost", ", ".join(lost)[:2000], None, None
            case _:
                pass

    def _describe_verdict(self, task: str, commands: Sequence[Command]) -> tuple[str, str, str, str]:
        """Client, task, verdict and reason of an answer."""
        settled = next((c for c in commands if isinstance(c, Settle) and c.task == task), None)
        client = next(iter(_clients(commands)), None) or self._clients.get(task, "")
        return (client, task, "", "") if settled is None else (client, task, settled.verdict, settled.why)

    def _version(self, version: int) -> tuple[str, str, str, str, bytes | None, None]:
        return "", "", "version", str(version), self._contents.digest(GlobalModel.name(version)), None

    def _content(self, reply: Reply) -> bytes | None:
        return None if reply.content is None else self._contents.digest(reply.content)


def first_hash(run: str) -> bytes:
    """What the first line of a run is chained to."""
    return blake2b(run.encode(), digest_size=32).digest()


def digest_of_file(path: Path) -> bytes:
    """The digest that a content file has in a line."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: blake2b(digest_size=32)).digest()


def verify(run: str, lines: Iterable[Line]) -> tuple[int, bytes]:
    """How many lines there are, and the last hash. Raises `StoreError` at the first line that is not what was written."""
    number, head = 0, first_hash(run)
    for line in lines:
        if line.number != number + 1:
            raise StoreError(f"the audit of run {run} is broken: after line {number} comes line {line.number}")
        if line.chained(run, head).hash != line.hash:
            raise StoreError(
                f"the audit of run {run} is broken: line {line.number} ({line.client or 'the server'}, {line.verdict}) "
                "is not what was written, or a line before it is missing"
            )
        number, head = line.number, line.hash
    return number, head


def _clients(commands: Sequence[Command]) -> list[str]:
    """Whose answers these commands tell of."""
    told = [command.event for command in commands if isinstance(command, Publish)]
    return [event.client for event in told if isinstance(event, (TaskSucceeded, TaskFailed))]


def _digest(reply: Reply) -> bytes:
    return blake2b(encode(msgspec.structs.replace(reply, content=None, partial=None)), digest_size=32).digest()
