"""How large a message may be that reaches the server: learned from refusals on the way. Knows sizes; knows no sockets.

A reverse proxy takes bodies up to a size that nobody announces (nginx as it is installed: 1 MiB), and answers 413 beyond it;
some cut the connection instead. Each refusal leads to the power of two below, down to `LEAST`, as long as the client lives.
"""

from __future__ import annotations

import threading

__all__ = ["LEAST", "Sizes"]

LEAST = 2**16  # bytes: a proxy that takes less than this is none that a model gets through
CUTS = 3  # connections that break one after another while a large message is sent, and it is taken to be too large


class Sizes:
    """The most bytes of one message. Safe to use from two threads.

    >>> sizes = Sizes()
    >>> sizes.refused(2**23), sizes.refused(2**22), sizes.most == 2**21, sizes.refused(2**16)
    (True, True, True, False)
    """

    def __init__(self) -> None:
        self.most = 2**62  # nothing is known of a limit
        self._cuts = 0
        self._lock = threading.Lock()

    def refused(self, size: int) -> bool:
        """A message of this size did not go through; whether a smaller one is worth a try."""
        with self._lock:
            self._cuts = 0
            if size <= LEAST:
                return False
            self.most = min(self.most, 1 << (size - 1).bit_length() - 1)  # the power of two below it
            return True

    def cut(self, size: int) -> bool:
        """The connection broke while this message was sent; whether that has made the messages to come smaller."""
        with self._lock:
            if size <= LEAST:
                return False
            self._cuts += 1
            if self._cuts < CUTS:
                return False
        return self.refused(size)

    def passed(self, size: int) -> None:
        """A message of this size was answered by the server."""
        if size > LEAST:
            with self._lock:
                self._cuts = 0
