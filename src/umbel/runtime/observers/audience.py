"""Tells observers of a run, on a thread of its own, one event after another; an observer cannot steer the run.

Knows no events. Names an observer that raises, and tells it nothing more. When `ROOM` events wait for a slow observer, the
run waits, too, and says so; at the end it waits until all have been told everything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from umbel.accidents import describe, format_traceback
from umbel.events import Event, Observer
from umbel.runtime.log import logger

__all__ = ["Audience"]

ROOM = 10_000  # events, about 5 MiB
TOGETHER = 0.05  # seconds in which events gather: to wake a thread for each takes 40 µs, twice what it takes to make one
NAG_EVERY = 10.0  # seconds between two lines about whom the run waits for
PROMPT = 1.0  # seconds of waiting that need no explanation


class Audience:
    """Tells `observers` in this order. A context: its end waits until they have been told everything."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._waiting: deque[Event] = deque()
        self._over = False
        self._changed = threading.Condition()  # there is something to tell, or room for more, or nothing more comes
        self._thread: threading.Thread | None = None
        self._at = ""  # the observer that is being told

    def __len__(self) -> int:
        return len(self._observers)

    def tell(self, event: Event) -> None:
        """Returns at once, unless too many events wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="umbel-observers", daemon=True)
            self._thread.start()
        with self._changed:
            self._make_room()
            self._waiting.append(event)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def _make_room(self) -> None:
        patience = PROMPT
        while len(self._waiting) >= ROOM:
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: len(self._waiting) < ROOM, patience):
                logger.warning("The run waits for observer %s, which %d events wait for", self._at, len(self._waiting))
            patience = NAG_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        with self._changed:
            self._over = True
            self._changed.notify_all()
        try:
            self._thread.join(PROMPT)
            while self._thread.is_alive():
                logger.info("The run is over; observer %s has %d more events to be told", self._at, len(self._waiting))
                self._thread.join(NAG_EVERY)
        except KeyboardInterrupt:
            logger.warning("Ctrl-C: observer %s is not told of %d more events", self._at, len(self._waiting))
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                self._changed.wait_for(lambda: self._over or len(self._waiting) >= ROOM, TOGETHER)
            while self._waiting:
                full = len(self._waiting) >= ROOM
                event = self._waiting.popleft()
                if full:
                    with self._changed:
                        self._changed.notify_all()
                self._tell_each(event)

    def _tell_each(self, event: Event) -> None:
        for observer in [*self._observers]:
            self._at = str(getattr(observer, "__name__", type(observer).__name__))
            try:
                observer(event)
            except BaseException as error:  # user code raises what it likes, and this ends nothing but its own part
                self._observers.remove(observer)
                logger.warning("Observer %s; it is told nothing more", describe(self._at, error))
                logger.debug("%s", format_traceback(error))
