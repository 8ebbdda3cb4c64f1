"""Versions of the model that observers may still want to read after the run has done with them.

Knows contents and version numbers; knows no events. A content that is open outlives its name, so nothing is copied. So that
neither files nor memory run out, the run waits where too many versions wait for slow observers, and says so.
"""

from __future__ import annotations

import threading
from collections import deque

from umbel.runtime.contents import Content
from umbel.runtime.log import logger

__all__ = ["Versions"]

MOST = 64  # versions, each an open file
MOST_BYTES = 256 << 20  # of all that wait: without a store they are in memory
PROMPT, NAG_EVERY = 1.0, 10.0  # seconds of waiting that need no explanation; between two explanations


class Versions:
    """A queue: `put` by the run, in the order in which versions are told; `turn_to` and `current` by those who are told."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Content]] = deque()  # the first is the current one, once it has been told
        self._size = 0
        self._current: int | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, version: int, content: Content) -> None:
        """Keeps a content open until a later version is turned to; waits while there is no room for it."""
        with self._changed:
            patience = PROMPT
            while len(self._waiting) > 1 and not self._has_room(content.size):
                if not self._changed.wait_for(lambda: self._has_room(content.size), patience):
                    logger.warning("The run waits for its callbacks, which are %d versions behind", len(self._waiting) - 1)
                patience = NAG_EVERY
            self._waiting.append((version, content))
            self._size += content.size

    def turn_to(self, version: int) -> None:
        """Makes this version the current one, and lets those before it go."""
        with self._changed:
            while self._waiting and self._waiting[0][0] != version:
                _, content = self._waiting.popleft()
                self._size -= content.size
                content.close()
            self._current = version if self._waiting else None
            self._changed.notify_all()

    def current(self) -> Content:
        """The content of the current version. Raises `LookupError` where there is none, and after the run."""
        if self._closed:
            raise LookupError("the run is over; its History has the model: history.parameters")
        if self._current is None:
            raise LookupError("there is no version of the model so far")
        return self._waiting[0][1]

    def close(self) -> None:
        """Lets all of them go; called when everybody has been told everything."""
        with self._changed:
            for _, content in self._waiting:
                content.close()
            self._waiting.clear()
            self._closed = True

    def _has_room(self, size: int) -> bool:
        return len(self._waiting) <= 1 or (len(self._waiting) < MOST and self._size + size <= MOST_BYTES)
