"""The loops that numba compiles, each with the bits of the numpy code beside which it is called. `compiled.py` loads them.

No `fastmath`: without it LLVM neither reorders a sum nor makes one rounding of a product and a sum. `nogil`: several blocks
are computed at a time, by the threads of whoever spreads them. What has been compiled is kept on disk, beside this file or
in the user's cache (NUMBA_CACHE_DIR), by processor; the first time takes seconds. NUMBA_DISABLE_JIT=1 leaves it to numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np

from umbel.params import NDArray

__all__ = ["add", "exchange", "scaled"]

# Coordinates that are sorted at a time: 20 rows of them are 40 KB, and stay in the first-level cache.
_TILE = 512

_F = TypeVar("_F", bound=Callable[..., None])


def _compile(function: _F) -> _F:
    try:
        made: _F = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that numba may write to
        made = numba.njit(nogil=True)(function)
    return made


@_compile
def add(total: NDArray, values: NDArray, weight: float) -> None:
    """total += weight × values, in float64, in place. Shapes (n,)."""
    for i in range(total.size):
        total[i] += np.float64(values[i]) * weight


@_compile
def scaled(out: NDArray, values: NDArray, weight: float) -> None:
    """out = weight × values, in float64, in place. Shapes (n,)."""
    for i in range(out.size):
        out[i] = np.float64(values[i]) * weight


@_compile
def exchange(rows: NDArray, comparators: NDArray, low: int, ranks: NDArray) -> None:
    """Applies a network to K rows, shape (K, n), and writes the rows from `low` on, as they are then, into `ranks`, (R, n).

    `comparators` are pairs of rows, shape (C, 2): the smaller value goes to the first.
    """
    count, size = rows.shape
    tile = np.zeros((count, _TILE), rows.dtype)
    for start in range(0, size, _TILE):
        stop = min(start + _TILE, size)
        for row in range(count):  # rows of `tile` and slices, because LLVM knows that their indices are not negative
            values, inside = rows[row, start:stop], tile[row]
            for i in range(values.size):
                inside[i] = values[i]
        for c in range(len(comparators)):
            first, second = tile[comparators[c, 0]], tile[comparators[c, 1]]
            for i in range(_TILE):
                one, other = first[i], second[i]
                first[i] = one if one < other else other
                second[i] = other if one < other else one
        for row in range(len(ranks)):
            values, inside = ranks[row, start:stop], tile[low + row]
            for i in range(values.size):
                values[i] = inside[i]
