"""Clients in this process: a task is done when the loop has nothing else to do. No thread, no socket; pdb works in `fit`."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping

from umbel.door import Door
from umbel.errors import Rejected, WireError
from umbel.exchange import Parameters
from umbel.params import Params, gather, schema_of
from umbel.rounds.messages import Failed, Failure, FailureKind, Input, Joined, Kind, Replied, Reply, Task, Verdict
from umbel.runtime.contents import Contents, write_content
from umbel.training import Answer, Client, run_task

__all__ = ["LocalTransport"]


class LocalTransport:
    """Runs tasks one after another. `clients` maps each name to a function that makes (or returns) the client."""

    def __init__(self, clients: Mapping[str, Callable[[], Client]], contents: Contents) -> None:
        self._clients = clients
        self._contents = contents
        self._inputs: deque[Input] = deque(Joined(name) for name in clients)
        self._tasks: deque[tuple[Task, str | None, Door]] = deque()
        self.verdicts: dict[str, tuple[Verdict, str]] = {}

    def receive(self, timeout: float | None) -> Input | None:
        if not self._inputs and self._tasks:
            task, content, door = self._tasks.popleft()
            self._inputs.append(self._do(task, content, door))
        if not self._inputs:
            threading.Event().wait(timeout)  # nobody else can add one: only time passes
            return None
        return self._inputs.popleft()

    def put(self, event: Input) -> None:
        self._inputs.append(event)

    def dispatch(self, task: Task, content: str | None, door: Door) -> None:
        self._tasks.append((task, content, door))

    def cancel(self, task: Task) -> None:
        self._tasks = deque(entry for entry in self._tasks if entry[0].id != task.id)

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        self.verdicts[task] = verdict, why

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        arrays = Params.of(parameters.arrays()).arrays() if parameters else []
        return run_task(self._clients[client](), kind, arrays, config)

    def close(self, why: str, *, over: bool) -> None:
        self._tasks.clear()

    def _do(self, task: Task, content: str | None, door: Door) -> Input:
        arrays = []
        if content is not None:
            opened = self._contents.open(content)
            arrays = Params.from_bytes(bytearray(opened.read(0, opened.size))).arrays()
            opened.close()
        answer = run_task(self._clients[task.client](), task.kind, arrays, task.config)
        if isinstance(answer, Failure):
            return Failed(task.id, answer)
        try:
            return Replied(task.id, self._admitted(task, answer, door))
        except (Rejected, WireError) as error:
            return Failed(task.id, Failure(FailureKind.REJECTED, str(error)))

    def _admitted(self, task: Task, answer: Answer, door: Door) -> Reply:
        name = f"{task.id}-{secrets.token_hex(4)}" if task.kind in (Kind.FIT, Kind.PARAMETERS) else None
        metrics: dict[str, object] = {**answer.metrics}
        reply = Reply(answer.num_examples, answer.loss, metrics, name)
        schema = schema_of(answer.arrays)
        door.admit(reply, schema)
        if name is not None:
            check = door.value_check(schema)
            begin = 0
            for view in gather(schema, answer.arrays, 0, schema.nbytes):
                if check is not None:
                    check.feed(begin, view)
                begin += len(view)
            write_content(self._contents, name, schema, gather(schema, answer.arrays, 0, schema.nbytes))
        return reply

