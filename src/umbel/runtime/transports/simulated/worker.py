"""A worker's end, wherever it runs: a workbench, the model that it was given, and what it sends back as contents.

Knows pieces and contents; does not know how they travel. A worker process (worker_process.py) calls it for each message, and
on Ray its methods are called from afar.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
from msgspec import Struct

from umbel.accidents import is_an_end
from umbel.params import NDArray, NDArrays, Params, gather
from umbel.runtime.threads import cap_threads
from umbel.runtime.transports.simulated.complaints import Broken
from umbel.runtime.transports.simulated.pieces import Done, Piece, Work
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.wire import Schema, encode_header, know

__all__ = ["Actor", "Result", "Worker"]

T = TypeVar("T")  # what a content becomes to be sent
Send = Callable[[Iterable[bytes | memoryview]], T]


class Result(Struct, Generic[T], frozen=True):
    """An outcome. `updates` are contents by name; `totals` are sums by chunk, where there are any."""

    done: Done
    updates: dict[str, T]
    totals: dict[int, T]


class Worker(Generic[T]):
    """`update` and `total` make of the bytes of a content what can be sent: of an update, and of a sum.

    Its methods are called one after another, from one thread.
    """

    def __init__(self, update: Send[T], total: Send[T]) -> None:
        self._send_update, self._send_total = update, total
        self._capped = contextlib.ExitStack()
        self._updates: dict[str, T] = {}
        self._given: dict[str, Params] = {}  # by the content's name

    def load(self, load: Callable[[], object], threads: int) -> Broken | None:
        """Loads the user's code: what `load` returns is a `Work`."""
        self._cap(threads)  # what it imports reads the environment
        try:
            work = load()
            assert isinstance(work, Work)
            self._bench = Workbench(work, self._keep)
        except BaseException as error:  # user code: whatever it says is for its author
            if is_an_end(error, os.getpid()):
                raise
            return Broken.by(error)
        self._cap(threads)  # what it has imported is capped, whatever it has read
        return None

    def try_client(self, client: str, threads: int) -> Broken | None:
        """Makes a client for nothing."""
        try:
            self._bench.try_client(client)
        except BaseException as error:  # user code
            if is_an_end(error, os.getpid()):
                raise
            return Broken.by(error)
        self._cap(threads)  # what making it has imported, too
        return None

    def open(self, piece: Piece, contents: Mapping[str, memoryview]) -> None:
        """Begins a piece. `contents` are the bytes of what it gives to clients, without what has been here already."""
        there = {**self._given, **{name: Params.from_bytes(data) for name, data in contents.items()}}
        self._given = {name: there[name] for name in piece.given.values()}
        given = {part: there[name] for part, name in piece.given.items()}
        self._piece = piece, given, self._bench.begin(piece)

    def do_task(self, position: int) -> None:
        """Does a task of the piece that is open; they come in order."""
        piece, given, done = self._piece
        self._bench.do_task(piece, piece.tasks[position], given, done)

    def finish(self) -> Result[T]:
        """The outcome of the piece that is open."""
        done, updates = self._piece[2], self._updates
        del self._piece  # not while the next sum grows: of a 100 MB model each is 200 MB
        self._updates = {}
        totals, done.totals = done.totals, {}
        return Result(done, updates, {chunk: self._sum(*total.stream()) for chunk, total in totals.items()})

    def _sum(self, schema: Schema, data: Iterable[memoryview]) -> T:
        return self._send_total(_content(know(schema), data))

    def _keep(self, name: str, schema: Schema, arrays: NDArrays) -> None:
        self._updates[name] = self._send_update(_content(schema, gather(schema, arrays, 0, schema.nbytes)))

    def _cap(self, threads: int) -> None:
        self._capped.close()
        self._capped.enter_context(cap_threads(threads))


def _content(schema: Schema, data: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    yield encode_header(schema)
    yield from data


class Actor(Worker[NDArray]):
    """One whose methods are called from another machine. Knows nothing of Ray, which makes it an actor."""

    def __init__(self) -> None:
        super().__init__(_in_one_piece, _in_one_piece)

    def begin(self, work: NDArray, path: list[str], arguments: list[str], threads: int) -> int | Broken:
        """Loads the user's code out of the bytes of a pickled `Work`. Returns this process's number."""
        sys.path.extend(entry for entry in path if entry not in sys.path)  # what this machine has itself comes first
        sys.argv[:] = arguments
        return self.load(lambda: pickle.loads(work.data), threads) or os.getpid()

    def begin_piece(self, piece: Piece, names: list[str], *contents: NDArray) -> None:
        """`open`, where contents come as arrays of their bytes, beside their names."""
        self.open(piece, {name: content.data for name, content in zip(names, contents, strict=True)})

    def do(self, piece: Piece, names: list[str], *contents: NDArray) -> Result[NDArray]:
        """Does a whole piece."""
        self.begin_piece(piece, names, *contents)
        for position in range(len(piece.tasks)):
            self.do_task(position)
        return self.finish()


def _in_one_piece(parts: Iterable[bytes | memoryview]) -> NDArray:
    return np.concatenate([np.frombuffer(part, np.uint8) for part in parts])
