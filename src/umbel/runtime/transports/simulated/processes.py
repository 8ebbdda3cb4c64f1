"""A crew of worker processes, started once. Models and sums are in shared memory; only heads of tasks travel.

A worker that dies is named and replaced; the piece that it was at is `Lost`, and the transport decides about it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from umbel.errors import SimulationError
from umbel.folding import PartialSum, plan
from umbel.runtime.log import logger
from umbel.runtime.threads import environment
from umbel.runtime.transports.simulated.channel import Channel, Closed
from umbel.runtime.transports.simulated.complaints import Broken, sendable, unusable
from umbel.runtime.transports.simulated.importable import by_value
from umbel.runtime.transports.simulated.pieces import Done, Lost, Piece, Work
from umbel.runtime.transports.simulated.shared import SharedContents, anonymous_file, load_shared
from umbel.runtime.transports.simulated.worker import Begin, Order, Ready, Result, dump

__all__ = ["ProcessCrew"]

GRACE = 1.0  # seconds that a worker has to finish a piece which nobody wants any more
STARTS = 3  # so often in a row a worker may fail to start
START_TIMEOUT = 600.0  # seconds for the user's imports

_BOOT = "import sys; sys.path[:] = {path!r}; from umbel.runtime.transports.simulated.worker import main; main({fd})"


@dataclass(slots=True)
class _Worker:
    """One slot, and the process that fills it just now."""

    slot: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    channel: Channel
    place: mmap.mmap
    ready: bool = False
    pieces: deque[Piece] = field(default_factory=deque)  # the first is being done
    content: str | None = None  # what it has
    kill_at: float | None = None

    @property
    def name(self) -> str:
        return f"worker {self.slot} (process {self.process.pid})"


class ProcessCrew:
    """`slots` workers. `devices` are the GPUs that each may see, one entry per slot; `ahead` is how many pieces a worker
    may have before it has answered.
    """

    here = False

    def __init__(
        self,
        work: Work,
        contents: SharedContents,
        *,
        slots: int,
        threads: int,
        ahead: int,
        devices: Sequence[str] | None = None,
        tries: str | None = None,
    ) -> None:
        self.slots = slots
        self._contents = contents
        self._aggregator = work.aggregator
        self._threads = threads
        self._ahead = ahead
        self._tries = tries
        self._backlog: deque[Piece] = deque()  # pieces for the next worker that is ready for one
        self._outcomes: deque[Done | Lost] = deque()
        self._dropped: set[int] = set()
        self._failed_starts = 0
        self._work = _dumped(work)
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._workers: list[_Worker] = []
        for slot in range(slots):
            visible = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices[slot]}
            self._workers.append(self._started(slot, environment(threads) | visible, tries if slot == 0 else None))

    def try_client(self) -> None:
        """Waits until the first worker has made a client. Raises `SimulationError` where it cannot."""
        until = time.monotonic() + START_TIMEOUT
        while not self._workers[0].ready:
            self._poll(max(until - time.monotonic(), 0.0))
            if time.monotonic() > until:
                raise SimulationError(f"no worker was ready after {START_TIMEOUT:.0f} s; does client_fn's module wait?")

    def free(self) -> bool:
        # A dropped piece takes no place: nobody hears when it is done, and what is to come would wait for ever.
        at_work = sum(piece.number not in self._dropped for worker in self._workers for piece in worker.pieces)
        return len(self._backlog) + at_work < self._ahead * self.slots

    def start(self, piece: Piece) -> None:
        self._backlog.append(piece)
        self._deal()

    def wait(self, timeout: float | None) -> Done | Lost | None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._outcomes:
            left = None if until is None else until - time.monotonic()
            if not self._poll(left) or (left is not None and left <= 0):
                break
        return self._outcomes.popleft() if self._outcomes else None

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    def drop(self, number: int) -> None:
        self._backlog = deque(piece for piece in self._backlog if piece.number != number)
        for worker in self._workers:
            if any(piece.number == number for piece in worker.pieces):
                self._dropped.add(number)
                worker.kill_at = time.monotonic() + GRACE

    def close(self) -> None:
        for worker in self._workers:
            worker.channel.close()  # it sees that and ends
        until = time.monotonic() + GRACE
        for worker in self._workers:
            try:
                worker.process.wait(max(until - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.place.close()
        self._workers = []
        self._selector.close()
        self._wake.close()
        self._woken.close()
        os.close(self._work)

    # ---- what comes from workers

    def _poll(self, timeout: float | None) -> bool:
        """Waits for something to happen and takes it in. False where `wake` was called."""
        deadlines = [worker.kill_at for worker in self._workers if worker.kill_at is not None]
        if deadlines:
            patience = max(min(deadlines) - time.monotonic(), 0.0)
            timeout = patience if timeout is None else min(timeout, patience)
        woken = False
        for key, _ in self._selector.select(None if timeout is None else max(timeout, 0.0)):
            if key.data is None:
                woken = True
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(1024)
            else:
                self._hear(self._workers[key.data])
        now = time.monotonic()
        for worker in self._workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                worker.process.kill()
                self._bury(worker)
        return not woken

    def _hear(self, worker: _Worker) -> None:
        try:
            worker.channel.read()
        except Closed:
            self._bury(worker)
            return
        for message, files in worker.channel.messages():
            match message:
                case Ready():
                    worker.ready = True
                    self._failed_starts = 0
                    self._deal()
                case Broken():
                    raise unusable(
                        message,
                        "a worker process",
                        importable="Workers have this process's sys.path; put the module there",
                    )
                case Result():
                    self._take(worker, message, files)

    def _take(self, worker: _Worker, result: Result, files: list[int]) -> None:
        piece, done = worker.pieces.popleft(), result.done
        assert piece.number == done.number
        self._deal()
        if done.number in self._dropped:
            self._dropped.discard(done.number)
            for file in files:
                os.close(file)
            if not any(other.number in self._dropped for other in worker.pieces):
                worker.kill_at = None
            return
        if result.summed:
            assert self._aggregator is not None
            assert piece.door.schema is not None
            file = files.pop()
            done.total = PartialSum.restored(self._aggregator, plan(piece.door.schema), load_shared(file))
            os.close(file)
        for name, file in zip(result.updates, files, strict=True):
            self._contents.keep_update(name, file)
        self._outcomes.append(done)

    def _deal(self) -> None:
        """Hands pieces to workers that are ready, the least busy first."""
        while self._backlog:
            ready = [worker for worker in self._workers if worker.ready and len(worker.pieces) < self._ahead]
            if not ready:
                return
            worker, piece = min(ready, key=lambda worker: len(worker.pieces)), self._backlog.popleft()
            worker.pieces.append(piece)
            self._order(worker, piece)

    def _order(self, worker: _Worker, piece: Piece) -> None:
        given = piece.content is not None and piece.content != worker.content
        files = [self._contents.file(piece.content)] if given and piece.content is not None else []
        wanted = (self._contents.spare() for asked in piece.tasks if asked.into is not None)
        spare = [file for file in wanted if file is not None]
        try:
            worker.channel.send(Order(piece, given), [*files, *spare])
        except Closed:
            return  # the selector tells, too
        finally:
            for file in spare:
                os.close(file)
        if given:
            worker.content = piece.content

    # ---- lives and deaths

    def _started(self, slot: int, variables: dict[str, str], tries: str | None) -> _Worker:
        mine, its = socket.socketpair()
        with its:
            boot = _BOOT.format(path=sys.path, fd=its.fileno())
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the worker begins so, and ignores it later
            try:
                process = subprocess.Popen(
                    [sys.executable, "-c", boot],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                    env={**os.environ, **variables},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        file = anonymous_file()
        os.write(file, bytes(8))
        worker = _Worker(slot, variables, process, Channel(mine), mmap.mmap(file, 8))
        with contextlib.suppress(Closed):
            begin = Begin(os.getpid(), [*sys.path], [*sys.argv], self._threads, tries)
            worker.channel.send(begin, [self._work, file])
        os.close(file)
        self._selector.register(mine, selectors.EVENT_READ, slot)
        return worker

    def _bury(self, worker: _Worker) -> None:
        """Names a dead worker, tells which piece is lost, and replaces it."""
        self._selector.unregister(worker.channel.socket)
        worker.channel.close()
        code = worker.process.wait()
        at = int.from_bytes(worker.place[:], "little", signed=True)
        worker.place.close()
        how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit status {code}"
        why = f"{worker.name} {how}"
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise SimulationError(f"{why} before it was ready, the {STARTS}rd in a row; what it printed is above")
        replacement = self._started(worker.slot, worker.environment, self._tries if not worker.ready else None)
        self._workers[worker.slot] = replacement
        pieces = deque(piece for piece in worker.pieces if piece.number not in self._dropped)
        self._dropped -= {piece.number for piece in worker.pieces}
        if worker.ready and worker.pieces and pieces and pieces[0] is worker.pieces[0]:
            lost = pieces.popleft()
            logger.warning("%s; it is replaced", why)
            indices = {asked.index for asked in lost.tasks}
            client = next((asked.client for asked in lost.tasks if asked.index == at), None)
            said = f"{why} at client {client}" if client is not None else why
            self._outcomes.append(Lost(lost.number, at if at in indices else None, said))
        self._backlog.extendleft(reversed(pieces))


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def _dumped(work: Work) -> int:
    with sendable("worker processes"), by_value(work.client_fn, *work.makers):
        return dump(work)
