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
from collections.abc import Iterable
from io import TextIOWrapper
from mmap import mmap

from msgspec import Struct

from umbel.runtime.transports.simulated.channel import Channel, Closed
from umbel.runtime.transports.simulated.importable import dump_code
from umbel.runtime.transports.simulated.pieces import Done, Piece
from umbel.runtime.transports.simulated.shared import (
    anonymous_file,
    dump_shared,
    load_shared,
    map_file,
    update_file,
    write_all,
)
from umbel.runtime.transports.simulated.worker import Worker

__all__ = ["NOWHERE", "Answer", "Begin", "Order", "Ready", "Trial", "dump", "main"]

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
    """A piece; with a file for each of the contents `given`, and files that updates may be written over."""

    piece: Piece
    given: tuple[str, ...]  # those that the worker does not have


class Answer(Struct, frozen=True):
    """An outcome; with a file for each name in `updates`, and then one for the sum of each of `chunks`."""

    done: Done
    updates: tuple[str, ...]
    chunks: tuple[int, ...]


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
        files = _Files()
        worker = Worker(files.of_update, files.of_sum)
        broken = worker.load(lambda: load_shared(work_file), begin.threads)
        channel.send(broken or Ready())
        while broken is None and (message := inbox.get()) is not None:
            asked, given = message
            match asked:
                case Trial(client):
                    broken = worker.try_client(client, begin.threads)
                    channel.send(broken or asked)
                case Order(piece, names):
                    contents = dict(zip(names, given, strict=False))
                    files.spare = given[len(names) :]
                    answer, sent = _do(worker, piece, contents, place)
                    channel.send(answer, sent)
                    for file in [*sent, *files.spare]:
                        os.close(file)
            del message, asked  # a piece has the states of its clients


def _do(worker: Worker[int], piece: Piece, contents: dict[str, int], place: mmap) -> tuple[Answer, list[int]]:
    worker.open(piece, {name: map_file(file) for name, file in contents.items()})
    for file in contents.values():
        os.close(file)
    for position, asked in enumerate(piece.tasks):
        place[:] = asked.index.to_bytes(8, "little", signed=True)
        worker.do_task(position)
    place[:] = NOWHERE.to_bytes(8, "little", signed=True)
    result = worker.finish()
    sent = [*result.updates.values(), *result.totals.values()]
    return Answer(result.done, tuple(result.updates), tuple(result.totals)), sent


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


class _Files:
    """Makes files of what is sent. Updates are written over `spare` ones, as long as there are any."""

    def __init__(self) -> None:
        self.spare: list[int] = []

    def of_update(self, parts: Iterable[bytes | memoryview]) -> int:
        return update_file(parts, self.spare.pop() if self.spare else None)

    def of_sum(self, parts: Iterable[bytes | memoryview]) -> int:
        file = anonymous_file()
        write_all(file, parts)
        return file


def _die_with(parent: int) -> None:
    """Has the kernel end this process with its parent, also in the middle of a long computation. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
