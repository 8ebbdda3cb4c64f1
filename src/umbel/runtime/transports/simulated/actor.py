"""The worker's end of the Ray crew: a workbench behind plain method calls. Knows nothing of Ray, which makes it an actor."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys

import numpy as np
from msgspec import Struct

from umbel.accidents import is_an_end
from umbel.params import NDArray, NDArrays, Params, gather
from umbel.runtime.threads import capped_threads
from umbel.runtime.transports.simulated.complaints import Broken
from umbel.runtime.transports.simulated.pieces import Done, Piece, Work
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.wire import Schema, encode_header

__all__ = ["Packed", "Result", "Worker"]


class Packed(Struct, frozen=True):
    """A value whose arrays may be written to when it has travelled: as they come out of an object store, they may not."""

    pickled: bytes
    buffers: list[NDArray]

    @classmethod
    def of(cls, value: object) -> Packed:
        aside: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, 5, buffer_callback=aside.append)
        return cls(pickled, [np.frombuffer(buffer.raw(), np.uint8) for buffer in aside])

    def load(self) -> object:
        return pickle.loads(self.pickled, buffers=[bytearray(buffer.data) for buffer in self.buffers])


class Result(Struct, frozen=True):
    """An outcome. `updates` are whole contents by name; `total` is the state of the sum, where there is one."""

    done: Done
    updates: dict[str, NDArray]
    total: Packed | None


class Worker:
    """One actor's. Its calls come one after another, from one thread."""

    def __init__(self) -> None:
        self._capped = contextlib.ExitStack()
        self._updates: dict[str, NDArray] = {}
        self._model: tuple[str, Params] | None = None

    def begin(self, work: NDArray, path: list[str], arguments: list[str], threads: int) -> int | Broken:
        """Loads the user's code out of the bytes of a pickled `Work`. Returns this process's number."""
        sys.path.extend(entry for entry in path if entry not in sys.path)  # what this machine has itself comes first
        sys.argv[:] = arguments
        self._cap(threads)  # what the user's code imports reads the environment
        try:
            loaded = pickle.loads(work.data)
            assert isinstance(loaded, Work)
            self._bench = Workbench(loaded, self._keep)
        except BaseException as error:  # user code: whatever it says is for its author
            if is_an_end(error, os.getpid()):
                raise
            return Broken.by(error)
        self._cap(threads)  # what it has imported is capped, whatever it has read
        return os.getpid()

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

    def do(self, piece: Piece, content: NDArray | None) -> Result:
        """Does a piece. `content` are the bytes of what `piece.content` names; None where that has been here already."""
        return self._result(self._bench.do(piece, self._given(piece, content)))

    def open(self, piece: Piece, content: NDArray | None) -> None:
        """Begins a piece whose tasks are asked for one by one: then it is known which one a worker dies of."""
        self._careful = piece, self._given(piece, content), self._bench.begin(piece)

    def do_task(self, position: int) -> None:
        piece, model, done = self._careful
        self._bench.do_task(piece, piece.tasks[position], model, done)

    def finish(self) -> Result:
        return self._result(self._careful[2])

    def _given(self, piece: Piece, content: NDArray | None) -> Params | None:
        if piece.content is None:
            return None
        if content is not None:
            self._model = piece.content, Params.from_bytes(content.data)
        assert self._model is not None
        assert self._model[0] == piece.content
        return self._model[1]

    def _result(self, done: Done) -> Result:
        updates, self._updates = self._updates, {}
        total, done.total = done.total, None
        return Result(done, updates, None if total is None else Packed.of(total.state()))

    def _keep(self, name: str, schema: Schema, arrays: NDArrays) -> None:
        header = np.frombuffer(encode_header(schema), np.uint8)
        parts = (np.frombuffer(view, np.uint8) for view in gather(schema, arrays, 0, schema.nbytes))
        self._updates[name] = np.concatenate([header, *parts])

    def _cap(self, threads: int) -> None:
        self._capped.close()
        self._capped.enter_context(capped_threads(threads))
