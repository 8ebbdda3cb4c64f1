"""Clients that are simulated, as a transport: cuts a cohort's tasks into pieces and hands them to a crew.

Knows pieces, crews and the order in which sums are merged; knows no processes. Where updates are folded a piece is a chunk
(docs/architecture.md, "Order"), and the sums of chunks become one in chunk order, whatever the order in which they come: at
most so many of them wait for an earlier one that memory does not grow with the cohort.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from umbel.aggregators import chunk_size
from umbel.dialogue import Parameters
from umbel.door import Door
from umbel.fold import PartialSum
from umbel.params import NamedArrays
from umbel.reports import Room
from umbel.rounds.messages import (
    Failed,
    Failure,
    FailureKind,
    Input,
    Kind,
    Populated,
    Reply,
    Reported,
    Stopped,
    Task,
    Verdict,
)
from umbel.runtime.contents import Contents, as_parameters, write_content
from umbel.runtime.surplus import Surplus
from umbel.runtime.transports.simulated.pieces import Asked, Crew, Done, Lost, Piece
from umbel.runtime.transports.simulated.states import States
from umbel.training import Answer
from umbel.update import MODEL, Given

__all__ = ["SimulatedTransport", "Sums"]

WAITING_SUMS = 256 * 2**20  # bytes of sums that may wait for an earlier one; as many as there are workers may in any case
TRIES = 2  # so often a task is tried whose worker dies


class Sums:
    """The sum of the open exchange, and the chunks' sums that wait for an earlier one."""

    def __init__(self) -> None:
        self._exchange = ""
        self._total: PartialSum | None = None
        self._waiting: dict[int, PartialSum | None] = {}
        self.next = 0  # the chunk that is merged next

    def open(self, exchange: str) -> None:
        """Begins anew, for the exchange of this name."""
        self._exchange, self._total, self._waiting, self.next = exchange, None, {}, 0

    def put(self, chunk: int, part: PartialSum | None) -> None:
        """Takes the sum of a chunk; None for one without any update."""
        self._waiting[chunk] = part
        while self.next in self._waiting:
            part = self._waiting.pop(self.next)
            self.next += 1
            if part is None or not part.updates:
                continue
            if self._total is None:
                self._total = part
            else:
                self._total.merge(part)

    def take(self, exchange: str) -> PartialSum:
        """The sum of the whole exchange."""
        if exchange != self._exchange or self._waiting or self._total is None:
            raise RuntimeError(f"the sum of {exchange} is not complete")
        return self._total


@dataclass(slots=True)
class _Job:
    """A piece as the transport follows it: its tasks, and which chunks of the sum it has, if it is folded."""

    piece: Piece
    tasks: dict[int, Task]
    chunks: tuple[int, ...] = ()
    deaths: dict[int | None, int] = field(default_factory=dict)


class SimulatedTransport:
    """`folds` tells whether updates are added up where they are made, and `keeps` whether each is kept by itself even then.

    `singly` sends every task by itself, for a pace that may close an exchange before all have answered; `deadline` is after
    how many seconds it does. `batch` is how many tasks, rounded up to whole chunks, are handed over at once. `defers` has
    the states of clients wait for `keep`.
    """

    def __init__(
        self,
        clients: Populated,
        crew: Crew,
        contents: Contents,
        *,
        states: States,
        folds: bool,
        singly: bool,
        keeps: bool = True,
        deadline: float | None = None,
        batch: int = 1,
        defers: bool = False,
        room: Room = Room(),  # noqa: B008  # a value
    ) -> None:
        self._positions = {name: i for i, name in enumerate(clients.names)}
        self._crew = crew
        self._contents = contents
        self._states = states
        self._folds = folds
        self._keeps = keeps
        self._singly = singly
        self._deadline = deadline
        self._batch = batch
        self._defers = defers
        self._room = room
        self._surplus = Surplus()
        self._deferred: dict[str, tuple[str, bytes]] = {}  # task → client and state
        self._closes: float | None = None
        self.in_user_code = False
        self.noise = False  # some client has drawn noise that is simulated
        self._inputs: deque[Input | BaseException] = deque()
        self._dispatched: list[tuple[Task, dict[str, str], Door]] = []
        self._ready: deque[_Job] = deque()
        self._away: dict[int, _Job] = {}
        self._numbers = count()
        self.sums = Sums()

    # ---- what the loop asks

    def receive(self, timeout: float | None) -> Input | None:
        if self._dispatched:
            self._cut()
        while not self._inputs:
            self._feed()
            try:
                self.in_user_code = self._crew.here
                outcome = self._crew.wait(timeout)
            except KeyboardInterrupt:
                return Stopped("stopped by Ctrl-C")
            finally:
                self.in_user_code = False
            if outcome is None:
                break
            self._take(outcome)
        event = self._inputs.popleft() if self._inputs else None
        if isinstance(event, BaseException):
            raise event
        return event

    def put(self, event: Input | BaseException) -> None:
        """Adds an input, or an exception that `receive` raises, from any thread or a signal handler."""
        self._inputs.append(event)
        self._crew.wake()

    def dispatch(self, task: Task, given: Given, door: Door) -> None:
        self._dispatched.append((task, {**given}, door))

    def cancel(self, task: Task) -> None:
        self._deferred.pop(task.id, None)
        self._dispatched = [entry for entry in self._dispatched if entry[0].id != task.id]
        for job in [*self._ready, *self._away.values()]:
            if job.tasks.get(task.index) == task:
                del job.tasks[task.index]
        self._ready = deque(job for job in self._ready if job.tasks)
        for number in [number for number, job in self._away.items() if not job.tasks]:
            del self._away[number]
            self._crew.drop(number)

    def keep(self, task: str) -> None:
        """The answer to this task counts: so does what its client has kept."""
        if task in self._deferred:
            self._states.put(*self._deferred.pop(task))

    def settle(self, task: str, verdict: Verdict, why: str) -> None:
        pass  # a simulated client hears nothing of it

    def ask(
        self, client: str, kind: Kind, parameters: Parameters | None, config: Mapping[str, object], timeout: float
    ) -> Answer | Failure:
        """Asks a client between the rounds; `timeout` is not kept, a simulated client answers or fails."""
        number = next(self._numbers)
        into = f"asked-{number}" if kind in (Kind.FIT, Kind.PARAMETERS) else None
        given = {} if parameters is None else {MODEL: f"ask-{number}"}
        if parameters is not None:
            write_content(self._contents, given[MODEL], *parameters.stream())
        asked = Asked(0, client, self._position(client), 0, {**config}, into, self._states.get(client))
        crew = self._crew
        crew.start(Piece(number, kind, (asked,), given, Door(kind, None, 2**63, 2**62, self._room)))
        while True:
            outcome = crew.wait(None)
            if outcome is not None and outcome.number == number:
                break
            if outcome is not None:
                self._take(outcome)
        for name in given.values():
            self._contents.remove(name)
        if isinstance(outcome, Lost):
            return Failure(FailureKind.DIED, outcome.why)
        self.noise = self.noise or outcome.noise
        answer = outcome.answers[0]
        if isinstance(answer, Failure):
            return answer
        if 0 in outcome.states:
            self._states.put(client, outcome.states[0])
        arrays = NamedArrays()
        if answer.content is not None:
            content = self._contents.open(answer.content)
            arrays = as_parameters(content).arrays()
            content.close()
            self._contents.remove(answer.content)
        return Answer(arrays, answer.num_examples, answer.loss, answer.metrics)  # type: ignore[arg-type]  # scalars, checked

    def before_asking(self, then: Callable[[], None]) -> None:
        pass  # a simulated client waits for nothing

    def close(self, why: str, *, over: bool) -> None:
        self._crew.close()

    # ---- pieces

    def _cut(self) -> None:
        """Makes pieces of what has been dispatched: whole chunks of consecutive tasks that get the same parameters."""
        tasks, self._dispatched = self._dispatched, []
        first = tasks[0][0]
        self._closes = None if self._deadline is None else time.monotonic() + self._deadline
        chunk = 1 if self._singly else chunk_size(first.cohort)
        most = 1 if self._singly else -(-self._batch // chunk) * chunk
        alike = all(given == tasks[0][1] for _, given, _ in tasks)
        folds = self._folds and first.is_update and alike
        if folds:
            self.sums.open(_exchange(first))
        run: list[tuple[Task, dict[str, str], Door]] = []
        for entry in tasks:
            if run and (
                entry[0].index // most != run[0][0].index // most
                or entry[0].index <= run[-1][0].index  # of another exchange, after a resume
                or entry[1] != run[0][1]
            ):
                self._ready.append(self._job(run, folds, chunk))
                run = []
            run.append(entry)
        self._ready.append(self._job(run, folds, chunk))

    def _job(self, run: list[tuple[Task, dict[str, str], Door]], folds: bool, chunk: int) -> _Job:
        first, given, door = run[0]
        carries = first.kind in (Kind.FIT, Kind.PARAMETERS) and (self._keeps or not folds)
        asked = tuple(
            Asked(
                task.index,
                task.client,
                self._position(task.client),
                task.round,
                task.config,
                f"{task.id}-update" if carries else None,
                self._states.get(task.client),
            )
            for task, _, _ in run
        )
        partial = _exchange(first) if folds else None
        piece = Piece(next(self._numbers), first.kind, asked, given, door, partial, chunk, self._closes)
        chunks = sorted({task.index // chunk for task, _, _ in run}) if folds else ()
        return _Job(piece, {task.index: task for task, _, _ in run}, tuple(chunks))

    def _feed(self) -> None:
        crew = self._crew
        while self._ready and crew.free() and self._has_room(self._ready[0]):
            job = self._ready.popleft()
            self._away[job.piece.number] = job
            crew.start(job.piece)

    def _has_room(self, job: _Job) -> bool:
        """Whether the sums of these chunks may be made now, or would have to wait for too many earlier ones."""
        door = job.piece.door
        if not job.chunks or door.schema is None:
            return True
        room = WAITING_SUMS // max(2 * sum((each.nbytes for each in door.beside.values()), door.schema.nbytes), 1)
        return job.chunks[0] - self.sums.next < max((self._crew.slots + 1) * len(job.chunks), room)

    def _take(self, outcome: Done | Lost) -> None:
        job = self._away.pop(outcome.number, None)
        if job is None:
            return
        if isinstance(outcome, Lost):
            self._try_again(job, outcome)
            return
        self.noise = self.noise or outcome.noise
        replies: list[tuple[str, Reply]] = []
        for index, answer in outcome.answers.items():
            task = job.tasks.get(index)
            if task is None:  # cancelled meanwhile
                continue
            if isinstance(answer, Failure):
                self._inputs.append(Failed(task.id, answer))
                continue
            if index in outcome.states:
                self._deferred[task.id] = task.client, outcome.states[index]
                if not self._defers:
                    self.keep(task.id)
            if index in outcome.surplus:
                self._surplus.say(task.client, task.kind, f"{outcome.surplus[index]:,} metrics")
            replies.append((task.id, answer))
        for chunk in job.chunks:
            self.sums.put(chunk, outcome.totals.get(chunk))
        if replies:
            self._inputs.append(Reported(tuple(replies)))

    def _try_again(self, job: _Job, lost: Lost) -> None:
        """Does a piece anew whose worker has died; a task at which two have died fails."""
        job.deaths[lost.at] = job.deaths.get(lost.at, 0) + 1
        if lost.at is not None:  # this is where an earlier one died, too, of whom nobody knew where
            job.deaths[lost.at] += job.deaths.pop(None, 0)
        piece = job.piece
        if job.deaths[lost.at] >= TRIES:
            given_up = set(job.tasks) if lost.at is None else {lost.at}
            text = f"{lost.why}, and so did the one that tried again" if TRIES == 2 else lost.why
            for index in sorted(given_up & set(job.tasks)):
                self._inputs.append(Failed(job.tasks.pop(index).id, Failure(FailureKind.DIED, text)))
            piece = replace(piece, tasks=tuple(asked for asked in piece.tasks if asked.index not in given_up))
        if piece.tasks:
            job.piece = replace(piece, number=next(self._numbers), careful=True)
            self._ready.appendleft(job)
        else:
            for chunk in job.chunks:
                self.sums.put(chunk, None)

    def _position(self, client: str) -> int:
        return self._positions.get(client, -1) if self._positions else int(client)


def _exchange(task: Task) -> str:
    return task.id.rpartition(".")[0]
