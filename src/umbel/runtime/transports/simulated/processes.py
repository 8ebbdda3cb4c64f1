"""Worker processes as hands: how one is started, spoken to and killed. Models and sums are in shared memory."""

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
from collections.abc import Sequence

from umbel.runtime.threads import environment
from umbel.runtime.transports.simulated.channel import Channel, Closed
from umbel.runtime.transports.simulated.complaints import Broken, sendable, unusable
from umbel.runtime.transports.simulated.crew import GRACE, Began, Died, Finished, Said, Tried, Woken
from umbel.runtime.transports.simulated.importable import by_value
from umbel.runtime.transports.simulated.pieces import Piece, Work
from umbel.runtime.transports.simulated.shared import SharedContents, anonymous_file, map_file
from umbel.runtime.transports.simulated.worker_process import NOWHERE, Answer, Begin, Order, Ready, Trial, dump

__all__ = ["ProcessYard"]

_BOOT = "import sys; sys.path[:] = {path!r}; from umbel.runtime.transports.simulated.worker_process import main; main({fd})"


class _Process:
    """One worker process. It writes the index of the task that it is at into a page that both have."""

    def __init__(
        self, slot: int, process: subprocess.Popen[bytes], channel: Channel, page: mmap.mmap, contents: SharedContents
    ) -> None:
        self.slot = slot
        self.name = f"worker {slot} (process {process.pid})"
        self.ready = False
        self.killed = False
        self.process = process
        self.channel = channel
        self._page = page
        self._contents = contents
        self._given: set[str] = set()  # what it has

    @property
    def at(self) -> int | None:
        return int.from_bytes(self._page[:], "little", signed=True)

    def try_client(self, client: str) -> None:
        self._say(Trial(client), [])

    def send(self, piece: Piece) -> None:
        given = tuple(name for name in piece.given.values() if name not in self._given)
        files = [self._contents.file(name) for name in given]
        wanted = (self._contents.spare() for asked in piece.tasks if asked.into is not None)
        spare = [file for file in wanted if file is not None]
        self._say(Order(piece, given), [*files, *spare])
        self._given = {*piece.given.values()}
        for file in spare:
            os.close(file)

    def kill(self, why: str) -> None:
        self.ready, self.killed = False, True
        self.process.kill()

    def _say(self, message: object, files: list[int]) -> None:
        with contextlib.suppress(Closed):  # the selector tells, too
            self.channel.send(message, files)


class ProcessYard:
    """`slots` places for processes of this machine. `devices` are the GPUs that each may see, one entry per slot."""

    def __init__(
        self, work: Work, contents: SharedContents, *, slots: int, threads: int, devices: Sequence[str] | None = None
    ) -> None:
        self.slots = slots
        self._contents = contents
        self._threads = threads
        self._devices = devices
        with sendable("worker processes"), by_value(work.client_fn, *work.makers):
            self._work = dump(work)
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._hands: list[_Process] = []

    def describe(self) -> str:
        return "a worker process"

    def hire(self, slot: int) -> _Process:
        visible = {} if self._devices is None else {"CUDA_VISIBLE_DEVICES": self._devices[slot]}
        mine, its = socket.socketpair()
        with its:
            boot = _BOOT.format(path=sys.path, fd=its.fileno())
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the worker begins so, and ignores it later
            try:
                process = subprocess.Popen(
                    [sys.executable, "-c", boot],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                    env={**os.environ, **environment(self._threads), **visible},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        file = anonymous_file()
        os.write(file, NOWHERE.to_bytes(8, "little", signed=True))
        hand = _Process(slot, process, Channel(mine), mmap.mmap(file, 8), self._contents)
        with contextlib.suppress(Closed):
            begin = Begin(os.getpid(), [*sys.path], [*sys.argv], self._threads)
            hand.channel.send(begin, [self._work, file])
        os.close(file)
        self._selector.register(mine, selectors.EVENT_READ, hand)
        self._hands.append(hand)
        return hand

    def hear(self, timeout: float | None) -> list[Said]:
        said: list[Said] = [self._bury(hand) for hand in [*self._hands] if hand.killed]
        for key, _ in self._selector.select(0.0 if said else timeout):
            if key.data is None:
                said.append(Woken())
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(1024)
            else:
                said += self._read_from(key.data)
        return said

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    def close(self) -> None:
        for hand in self._hands:
            hand.channel.close()  # it sees that and ends
        until = time.monotonic() + GRACE
        for hand in self._hands:
            try:
                hand.process.wait(max(until - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                hand.process.kill()
                hand.process.wait()
        self._hands = []
        self._selector.close()
        self._wake.close()
        self._woken.close()
        os.close(self._work)

    def _read_from(self, hand: _Process) -> list[Said]:
        try:
            hand.channel.read()
        except Closed:
            return [self._bury(hand)]
        said: list[Said] = []
        for message, files in hand.channel.messages():
            match message:
                case Ready():
                    hand.ready = True
                    said.append(Began(hand))
                case Trial():
                    said.append(Tried(hand))
                case Broken():
                    raise unusable(
                        message,
                        "a worker process",
                        importable="Workers have this process's sys.path; put the module there",
                    )
                case Answer(done, updates, chunks):
                    sums = files[len(updates) :]
                    totals = {chunk: map_file(file, writable=True) for chunk, file in zip(chunks, sums, strict=True)}
                    for file in sums:
                        os.close(file)
                    for name, file in zip(updates, files, strict=False):
                        self._contents.keep_update(name, file)
                    said.append(Finished(hand, done, totals))
        return said

    def _bury(self, hand: _Process) -> Died:
        self._hands.remove(hand)
        self._selector.unregister(hand.channel.socket)
        hand.channel.close()
        hand.ready = False
        code = hand.process.wait()
        how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit status {code}"
        return Died(hand, f"{hand.name} {how}")


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name
