"""A crew that begins in this process and moves to worker processes once they pay.

Which one does a piece changes no bit, so this may be decided in the middle of a run. As with skis, rented or bought: when as
much time has gone by here as starting workers takes, they are started; that is never twice as slow as knowing beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from umbel.errors import SimulationError
from umbel.runtime.log import logger
from umbel.runtime.transports.simulated.pieces import Crew, Done, Lost, Piece

__all__ = ["AutoCrew"]

START_COST = 2.0  # seconds: what starting workers and their imports take, about
WORTH = 1e-3  # seconds a task: below, sending it costs as much as another processor gains


class AutoCrew:
    """`first` does the pieces until `then` would do them sooner."""

    def __init__(self, first: Crew, then: Callable[[], Crew]) -> None:
        self._crew = first
        self._then: Callable[[], Crew] | None = then
        self._spent = 0.0  # seconds
        self._tasks = 0

    @property
    def slots(self) -> int:
        return self._crew.slots

    @property
    def here(self) -> bool:
        return self._crew.here

    def free(self) -> bool:
        return self._crew.free()

    def start(self, piece: Piece) -> None:
        if self._then is not None and self._crew.free() and self._spent > max(START_COST, WORTH * self._tasks):
            self._move(self._then)
        self._tasks += len(piece.tasks)
        self._crew.start(piece)

    def wait(self, timeout: float | None) -> Done | Lost | None:
        started, works = time.monotonic(), not self._crew.free()
        outcome = self._crew.wait(timeout)
        if works:
            self._spent += time.monotonic() - started
        return outcome

    def wake(self) -> None:
        self._crew.wake()

    def drop(self, number: int) -> None:
        self._crew.drop(number)

    def close(self) -> None:
        self._crew.close()

    def _move(self, then: Callable[[], Crew]) -> None:
        self._then = None
        try:
            crew = then()
        except (SimulationError, OSError) as error:  # or no more files or processes are to be had
            logger.info("The clients stay in one process: %s", error)
            return
        self._crew.close()
        self._crew = crew
        each = self._spent / self._tasks
        logger.info("A task takes %.3g s: from here on %d worker processes share them", each, crew.slots)
