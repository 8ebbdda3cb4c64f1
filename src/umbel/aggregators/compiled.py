"""Whether a loop is done by numba instead of numpy (extra `compiled`). Changes no bit; knows no rule, and loads numba late.

Numba costs a process about a second and 110 MB, so it is loaded once numpy has been given as much to do as that second is
worth: a small model and a short run never pay for it. Work is counted, not timed, in steps: an operation on a coordinate.
A step takes numpy about 1 ns; compiled, it is 0.3 ns in sums and 0.15 ns in sorting (`bench/aggregation.py`).
"""

from __future__ import annotations

import os
from types import ModuleType

from umbel.params import NDArray

__all__ = ["Gate", "gate", "suits"]

WORTH = 1_500_000_000  # steps: 200 updates of 7.5 M floats in a mean, one median of 20 updates of 18 M


class Gate:
    """Counts steps, and opens at `worth` of them. Where numba is missing or switched off, it stays closed.

    >>> small = Gate(100)
    >>> small(60) is None, small.steps
    (True, 60)
    """

    def __init__(self, worth: int) -> None:
        self.worth = worth
        self.steps = 0  # threads may overwrite each other's count: it is a guess in any case
        self.loops: ModuleType | None = None

    def __call__(self, steps: int) -> ModuleType | None:
        """The module `loops`, for so many steps more; None: numpy is to do them."""
        if self.steps < self.worth:
            self.steps += steps
            if self.steps >= self.worth:  # other threads go on with numpy meanwhile
                self.open()
        return self.loops

    def open(self) -> bool:
        """Opens it at once. Returns whether it could: without numba, or with NUMBA_DISABLE_JIT=1, nothing is compiled."""
        self.steps = self.worth
        if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
            try:
                from umbel.aggregators import loops
            except ImportError:  # not installed, or not made for this numpy
                return False
            self.loops = loops
        return self.loops is not None


gate = Gate(WORTH)


def suits(values: NDArray) -> bool:
    """Whether there are loops for a row: shape (n,) without gaps, native float32 or float64."""
    return values.ndim == 1 and values.dtype.char in "fd" and values.dtype.isnative and values.flags.c_contiguous
