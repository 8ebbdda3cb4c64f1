"""Questions to one client outside of any round: a strategy may ask what it likes. Knows tasks and contents; no requests.

A question is a task that its client is owed, like any other; its answer goes to whoever asks, and not to the run's loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from umbel.dialogue import Parameters, scalars
from umbel.door import Door
from umbel.params import NamedArrays, Params
from umbel.reports import Room
from umbel.rounds.messages import Failed, Failure, FailureKind, Kind, Replied, Reply, Task
from umbel.runtime.contents import Contents, write_content
from umbel.runtime.largest import largest_update
from umbel.training import Answer
from umbel.update import MODEL

if TYPE_CHECKING:
    from umbel.runtime.transports.base import Transport

__all__ = ["Questions"]


class Questions:
    """The questions of one run that are open. `ask` is for any thread; all else is called where answers come."""

    def __init__(self, run: str, contents: Contents, *, room: Room, max_bytes: int | None) -> None:
        self._run, self._contents = run, contents
        self._room, self._max_bytes = room, max_bytes
        self._open: dict[str, Future[Answer | Failure]] = {}

    def __contains__(self, task: object) -> bool:
        return task in self._open

    def ask(
        self,
        transport: Transport,
        client: str,
        kind: Kind,
        parameters: Parameters | None,
        config: Mapping[str, object],
        timeout: float,
    ) -> Answer | Failure:
        """Has the transport send a question, and waits `timeout` seconds for the answer."""
        name = f"ask-{secrets.token_hex(8)}"
        task = Task(f"{self._run}.{name}", 0, kind, 0, 1, client, None, {**config}, name if parameters else None)
        if parameters is not None:
            write_content(self._contents, name, *parameters.stream())
        answered: Future[Answer | Failure] = Future()
        self._open[task.id] = answered
        door = Door(kind, None, 2**63, largest_update(self._contents, self._max_bytes), self._room)
        transport.dispatch(task, {} if parameters is None else {MODEL: name}, door)
        try:
            return answered.result(timeout)
        except TimeoutError:
            return Failure(FailureKind.LATE, f"no answer within {timeout:g} s")
        finally:
            del self._open[task.id]
            transport.cancel(task)
            self._contents.remove(name)

    def answer(self, event: Replied | Failed) -> None:
        """Gives whoever asked the answer to an open question."""
        answer = event.failure if isinstance(event, Failed) else self._read(event.reply)
        asked = self._open.get(event.task)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def leave(self, task: str, why: str) -> None:
        """Fails a question whose client has left; does nothing for a task of a round."""
        if task in self._open:
            self.answer(Failed(task, Failure(FailureKind.LEFT, f"the client left: {why}")))

    def _read(self, reply: Reply) -> Answer:
        arrays = NamedArrays()
        if reply.content is not None:
            content = self._contents.open(reply.content)
            arrays = Params.from_bytes(bytearray(content.read(0, content.size))).arrays()
            content.close()
            self._contents.remove(reply.content)
        return Answer(arrays, reply.num_examples, reply.loss, scalars(reply.metrics))
