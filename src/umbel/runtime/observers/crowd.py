"""Says who comes and goes: in a line for each while they are few, in one a second for all of them once they are many.

A line takes about as long as everything else that a client costs when it joins: ten thousand of them were ten seconds.
"""

from __future__ import annotations

import threading
import time

from umbel.runtime.log import logger

__all__ = ["Crowd"]

AT_ONCE = 10.0  # lines for one client each, before they are held back
EVERY = 1.0  # seconds until there may be one more, and between two lines for many


class Crowd:
    """Writes what happens at once, or within a second: then a timer's thread does. `flush` comes before other lines.

    Whatever is held back has a line of its own at level DEBUG.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines, self._counted_at = AT_ONCE, time.monotonic()  # how many lines may be written now
        self._timer: threading.Timer | None = None
        self._joined = self._left = self._available = self._needed = 0

    def note_joined(self, client: str, available: int) -> None:
        with self._lock:
            self._available = available
            if self._may_write():
                logger.info("client %s joined (%d available)", client, available)
            else:
                self._joined += 1
                logger.debug("client %s joined (%d available)", client, available)

    def note_left(self, client: str, why: str, available: int) -> None:
        with self._lock:
            self._available = available
            if self._may_write():
                logger.warning("client %s left: %s (%d available)", client, why, available)
            else:
                self._left += 1
                logger.debug("client %s left: %s (%d available)", client, why, available)

    def note_waiting(self, available: int, needed: int) -> None:
        """Says that the run waits for clients."""
        with self._lock:
            self._available = available
            if self._may_write():
                logger.info("Waiting for clients: %d of %d available", available, needed)
            else:
                self._needed = needed

    def flush(self) -> None:
        """Writes what is held back."""
        with self._lock:
            if self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
            came = [f"{self._joined} clients joined"] if self._joined else []
            went = [f"{self._left} left"] if self._left else []
            wanted = f", {self._needed} are needed" if self._needed else ""
            logger.info("%s (%d available%s)", ", ".join([*came, *went]) or "Waiting for clients", self._available, wanted)
            self._joined = self._left = self._needed = 0

    def _may_write(self) -> bool:
        """Whether there is room for a line now; otherwise there will be one for all that is held back until then."""
        now = time.monotonic()
        self._lines = min(self._lines + (now - self._counted_at) / EVERY, AT_ONCE)
        self._counted_at = now
        if self._timer is not None:
            return False
        if self._lines >= 1:
            self._lines -= 1
            return True
        self._timer = threading.Timer(EVERY, self.flush)
        self._timer.daemon = True
        self._timer.start()
        return False
