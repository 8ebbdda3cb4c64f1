"""A crew of one: pieces are done in this process, one after another, by whoever waits. No IPC; pdb works in `fit`."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from umbel.accidents import Interruption
from umbel.params import NDArrays, Params, gather
from umbel.runtime.contents import Contents, write_content
from umbel.runtime.transports.simulated.pieces import Done, Lost, Piece, Work
from umbel.runtime.transports.simulated.shared import SharedContents
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.update import Given
from umbel.wire import Schema, encode_header

__all__ = ["InlineCrew"]


class _Hung(Interruption):
    """The time of a piece is over."""


class InlineCrew:
    """Does each piece when it is waited for. One that lasts beyond its `until` is interrupted and has no outcome; that needs
    the main thread, and Python code now and then.
    """

    slots = 1
    here = True

    def __init__(self, work: Work, contents: Contents) -> None:
        self._contents = contents
        self._bench = Workbench(work, self._keep)
        self._pieces: deque[Piece] = deque()
        self._given: dict[str, Params] = {}  # by the content's name
        self._awake = threading.Event()

    def try_client(self, client: str) -> None:
        self._bench.try_client(client)

    def free(self) -> bool:
        return not self._pieces

    def start(self, piece: Piece) -> None:
        self._pieces.append(piece)

    def wait(self, timeout: float | None) -> Done | Lost | None:
        if not self._pieces:
            self._awake.wait(timeout)
            self._awake.clear()
            return None
        piece = self._pieces.popleft()
        try:
            with _limit_time(piece.until):
                done = self._bench.do(piece, self._read(piece.given))
        except _Hung:
            return None
        return None if piece.until is not None and time.monotonic() > piece.until else done

    def wake(self) -> None:
        self._awake.set()

    def drop(self, number: int) -> None:
        self._pieces = deque(piece for piece in self._pieces if piece.number != number)

    def close(self) -> None:
        self._pieces.clear()

    def _read(self, given: Given) -> dict[str, Params]:
        """What clients are given, by part; what they had before need not be read again."""
        before, self._given = self._given, {}
        for name in given.values():
            if name not in before:
                content = self._contents.open(name)
                before[name] = Params.from_bytes(content.read(0, content.size))
                content.close()
            self._given[name] = before[name]
        return {part: self._given[name] for part, name in given.items()}

    def _keep(self, name: str, schema: Schema, arrays: NDArrays) -> None:
        blocks = gather(schema, arrays, 0, schema.nbytes)
        if isinstance(self._contents, SharedContents):
            self._contents.keep_update(name, [encode_header(schema), *blocks])
        else:
            write_content(self._contents, name, schema, blocks)


@contextmanager
def _limit_time(until: float | None) -> Iterator[None]:
    """Raises `_Hung` inside at that time, and each second after it, for code that catches everything."""
    if until is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise _Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 1e-3), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
