"""A pace: so much at once, and so much a second from then on. Knows a clock, and nothing else."""

from __future__ import annotations

import time

__all__ = ["Bucket"]


class Bucket:
    """`burst` at once, and `rate` a second from then on."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), time.monotonic()

    def take(self, amount: float = 1.0) -> bool:
        """Whether so much is left, which is then gone."""
        if self.left() < amount:
            return False
        self._left -= amount
        return True

    def left(self) -> float:
        """How much is left."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, self._burst)
        self._at = now
        return self._left
