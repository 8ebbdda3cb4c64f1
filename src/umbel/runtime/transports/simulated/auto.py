"""A crew that begins in this process and moves to worker processes once they pay.

Which one does a piece changes no bit, so this may be decided in the middle of a run. As with skis, rented or bought: when as
much time has gone by here as workers will take to begin, they are started, and the clients go on here until all of them are
ready. The first piece of a kind imports and compiles what user code needs; a worker will have to do that again, so what such
pieces took longer than the others is part of what workers cost, and not of what they save.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from umbel.errors import SimulationError
from umbel.rounds.messages import Kind
from umbel.runtime.log import logger
from umbel.runtime.transports.simulated.crew import RemoteCrew
from umbel.runtime.transports.simulated.pieces import Crew, Done, Lost, Piece

__all__ = ["AutoCrew"]

START_COST = 2.0  # seconds: what starting workers and their imports take, about
WORTH = 1e-3  # seconds a task: below, sending it costs as much as another processor gains


class AutoCrew:
    """`first` does the pieces until the crew that `then` starts would do them sooner, and is ready; it tries this client."""

    def __init__(self, first: Crew, then: Callable[[], RemoteCrew], client: str) -> None:
        self._crew = first
        self._then: Callable[[], RemoteCrew] | None = then
        self._client = client
        self._coming: RemoteCrew | None = None  # its workers are being started
        self._kinds: set[Kind] = set()  # of pieces so far
        self._warms_up = False  # the piece under way is the first of its kind
        self._warm_up, self._first_tasks = 0.0, 0  # seconds and tasks of such pieces
        self._spent, self._tasks = 0.0, 0  # and of all others

    @property
    def slots(self) -> int:
        return self._crew.slots

    @property
    def here(self) -> bool:
        return self._crew.here

    def free(self) -> bool:
        return self._crew.free()

    def start(self, piece: Piece) -> None:
        if self._then is not None and self._pays():
            self._begin(self._then)
        if self._coming is not None and self._crew.free():
            self._move(self._coming)
        self._warms_up = piece.kind not in self._kinds
        if self._warms_up:
            self._kinds.add(piece.kind)
            self._first_tasks += len(piece.tasks)
        else:
            self._tasks += len(piece.tasks)
        self._crew.start(piece)

    def wait(self, timeout: float | None) -> Done | Lost | None:
        started, works = time.monotonic(), not self._crew.free()
        outcome = self._crew.wait(timeout)
        if works and self._warms_up:
            self._warm_up += time.monotonic() - started
        elif works:
            self._spent += time.monotonic() - started
        return outcome

    def wake(self) -> None:
        self._crew.wake()

    def drop(self, number: int) -> None:
        self._crew.drop(number)

    def close(self) -> None:
        self._crew.close()
        if self._coming is not None:
            self._coming.close()
            self._coming = None

    def _pays(self) -> bool:
        """Whether as much time has gone by as workers will take to begin."""
        if not self._tasks:
            return False
        again = max(self._warm_up - self._first_tasks * self._spent / self._tasks, 0.0)
        return self._spent > max(START_COST + again, WORTH * self._tasks)

    def _begin(self, then: Callable[[], RemoteCrew]) -> None:
        """Starts the workers, without waiting for them."""
        self._then = None
        try:
            self._coming = then()
        except (SimulationError, OSError) as error:  # or no more files or processes are to be had
            logger.info("The clients stay in one process: %s", error)

    def _move(self, coming: RemoteCrew) -> None:
        """Goes over to the workers, once they are ready."""
        try:
            if not coming.becomes_ready(self._client):
                return
        except (SimulationError, OSError) as error:
            self._coming = None
            coming.close()
            logger.info("The clients stay in one process: %s", error)
            return
        self._coming = None
        self._crew.close()
        self._crew = coming
        each = self._spent / self._tasks
        logger.info("A task takes %.3g s: from here on %d worker processes share them", each, coming.slots)
