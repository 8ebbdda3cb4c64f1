"""A worker process: takes pieces from its parent, does them, answers. Ends when the parent does, whatever it is at."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from mmap import mmap

from msgspec import Struct

from umbel.accidents import is_an_end
from umbel.params import NDArrays, Params, gather
from umbel.runtime.threads import capped_threads
from umbel.runtime.transports.simulated.channel import Channel, Closed
from umbel.runtime.transports.simulated.complaints import Broken
from umbel.runtime.transports.simulated.importable import dump_code
from umbel.runtime.transports.simulated.pieces import Done, Piece, Work
from umbel.runtime.transports.simulated.shared import dump_shared, load_shared, map_file, update_file
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.wire import Schema, encode_header

__all__ = ["NOWHERE", "Begin", "Order", "Ready", "Result", "Trial", "dump", "main"]

_PR_SET_PDEATHSIG = 1
LAST_WORDS = 5.0  # seconds that a worker has to end by itself, where nobody ends it sooner
NOWHERE = -1  # no task is being done

Inbox = queue.SimpleQueue[tuple[object, list[int]] | None]


class Begin(Struct, frozen=True):
    """The first message, with two files: the work, and the place for the index of the task that is being done."""

    parent: int
    path: list[str]
    arguments: list[str]
    threads: int


class Ready(Struct, frozen=True):
    """The user's code is loaded."""


class Trial(Struct, frozen=True):
    """A client is to be made for nothing; also the answer, when it has been."""

    client: str


class Order(Struct, frozen=True):
    """A piece; with a file, its content, where the worker does not have it, and files that updates may be written over."""

    piece: Piece
    given: bool


class Result(Struct, frozen=True):
    """An outcome; with a file for each name in `updates`, and one for the sum if there is one."""

    done: Done
    updates: tuple[str, ...]
    summed: bool


def dump(value: object) -> int:
    """A file with the value, for `load_shared`. Functions and classes of `__main__` and notebooks are in it by value."""
    buffers: list[pickle.PickleBuffer] = []

    def aside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < 1 << 14:
            return True  # stays inside
        buffers.append(buffer)
        return False

    return dump_shared(dump_code(value, aside), buffers)


def main(fd: int) -> None:
    """Works for the process at the other end of the socket `fd`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # which it was until here
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # what a client prints outlives a worker that is killed
    channel = Channel(socket.socket(fileno=fd))
    os.set_inheritable(fd, False)
    os.register_at_fork(after_in_child=channel.close)  # else the parent would not see this process end before its children
    begin, (work_file, place_file) = channel.receive()
    assert isinstance(begin, Begin)
    _die_with(begin.parent)
    sys.path[:] = begin.path
    sys.argv[:] = begin.arguments
    place = mmap(place_file, 8)
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox), daemon=True).start()
    with contextlib.suppress(Closed):
        with _telling(channel):
            work = load_shared(work_file)
            assert isinstance(work, Work)
            updates = _Updates()
            bench = Workbench(work, updates.keep)
        channel.send(Ready())
        _work(channel, inbox, bench, updates, place, begin.threads)


@contextlib.contextmanager
def _telling(channel: Channel) -> Iterator[None]:
    """Tells the parent what user code raises inside, and ends this process."""
    try:
        yield
    except BaseException as error:  # whatever it says is for its author
        if is_an_end(error, os.getpid()):
            raise
        channel.send(Broken.by(error))
        sys.exit()


def _work(channel: Channel, inbox: Inbox, bench: Workbench, updates: _Updates, place: mmap, threads: int) -> None:
    name, model = None, None

    def at(index: int) -> None:
        place[:] = index.to_bytes(8, "little", signed=True)

    with contextlib.ExitStack() as caps:
        caps.enter_context(capped_threads(threads))  # after the user's imports: what they loaded is capped, too
        while (message := inbox.get()) is not None:
            order, files = message
            if isinstance(order, Trial):
                with _telling(channel):
                    bench.try_client(order.client)
                caps.close()
                caps.enter_context(capped_threads(threads))  # what making it has imported, too
                channel.send(order)
                continue
            assert isinstance(order, Order)
            if order.given:
                file = files.pop(0)
                name, model = order.piece.content, Params.from_bytes(map_file(file))
                os.close(file)
            updates.spare = files
            assert order.piece.content in (None, name)
            done = bench.do(order.piece, None if order.piece.content is None else model, at)
            at(NOWHERE)
            total, done.total = done.total, None
            sent = [*updates.kept.values()]
            if total is not None:
                sent.append(dump(total.state()))
            channel.send(Result(done, tuple(updates.kept), total is not None), sent)
            for file in [*sent, *updates.spare]:
                os.close(file)
            updates.kept.clear()
            del message, order, done, total  # not while the next sum grows: of a 100 MB model each is 200 MB


def _listen(channel: Channel, inbox: Inbox) -> None:
    """Always reads, so that the parent never waits for a worker that computes; and notices its end.

    Then an idle worker ends as programs do, and whatever its clients have begun ends with it.
    """
    try:
        while True:
            inbox.put(channel.receive())
    except Closed:
        inbox.put(None)
        threading.Event().wait(LAST_WORDS)
        os._exit(0)
    except BaseException:  # a message that cannot be read: nobody may wait for an answer to it
        traceback.print_exc()
        os._exit(1)


class _Updates:
    """The files of a piece's updates by name, and those that may be written over."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.spare: list[int] = []

    def keep(self, name: str, schema: Schema, arrays: NDArrays) -> None:
        views = gather(schema, arrays, 0, schema.nbytes)
        self.kept[name] = update_file(chain([encode_header(schema)], views), self.spare.pop() if self.spare else None)


def _die_with(parent: int) -> None:
    """Has the kernel end this process with its parent, also in the middle of a long computation. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
