"""The rows that a plan asks for, made from a block of the updates. Knows arrays only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from umbel.aggregators.gram import TILE
from umbel.params import NDArray

__all__ = ["mixed"]

_ROWS = 24  # as in gram.py: products so small that a BLAS computes them in one thread
_NOTHING = 1e-12  # what the rounding of a plan leaves of 1 - Σ coefficients


def mixed(
    matrix: NDArray,
    updates: NDArray,
    base: Callable[[], NDArray],
    guides: Callable[[NDArray], Sequence[NDArray]],
) -> NDArray:
    """b + Σⱼ mᵢⱼ·(xⱼ − b) + Σ mᵢ_g·g for each row i of `matrix`, shape (R, K + G), over `updates` of shape (K, n): (R, n).

    `base()` is b, and `guides(b)` are differences to it, both float64; they are read only where they matter. Where every row
    picks a single update, the result has the updates' dtype; otherwise it is float64.

    >>> mixed(np.array([[0.5, 0.5]]), np.array([[1.0, 2.0], [3.0, 6.0]]), lambda: np.zeros(2), lambda _: []).tolist()
    [[2.0, 4.0]]
    """
    count = len(updates)
    if (np.count_nonzero(matrix, axis=1) == 1).all() and (matrix[:, :count].max(axis=1) == 1.0).all():
        picked = matrix.argmax(axis=1)
        return updates if np.array_equal(picked, np.arange(count)) else updates[picked]
    left = 1.0 - matrix[:, :count].sum(axis=1)
    left[np.abs(left) < _NOTHING] = 0.0
    guided = matrix[:, count:].any()
    old = base() if left.any() or guided else np.zeros(0)
    rows: list[NDArray] = [*updates, *(guides(old) if guided else [])]
    used = matrix[:, : len(rows)]
    if len(used) == 1:
        return _sum(used[0], rows, left[0], old)[None]
    together = np.zeros((len(rows), -(-len(rows[0]) // TILE) * TILE))
    for wide, row in zip(together[:, : len(rows[0])], rows, strict=True):
        wide[:] = row
    sums: NDArray = _product(used, together)[:, : len(rows[0])]
    for row, part in zip(sums, left, strict=True):
        if part:
            row += part * old
    return sums


def _sum(coefficients: NDArray, rows: Sequence[NDArray], left: float, old: NDArray) -> NDArray:
    """Σ cⱼ·xⱼ + left·b, in the order of the rows."""
    total = left * old if left else np.zeros(len(rows[0]))
    term = np.empty_like(total)
    for coefficient, row in zip(coefficients, rows, strict=True):
        if coefficient:
            np.copyto(term, row)
            term *= coefficient
            total += term
    return total


def _product(matrix: NDArray, rows: NDArray) -> NDArray:
    """`matrix @ rows`, in products too small for more than one thread."""
    tiles = rows.reshape(len(rows), -1, TILE).transpose(1, 0, 2)
    result = np.zeros((len(matrix), tiles.shape[0], TILE))
    for top in range(0, len(matrix), _ROWS):
        for left in range(0, len(rows), _ROWS):
            part = np.matmul(matrix[top : top + _ROWS, left : left + _ROWS], tiles[:, left : left + _ROWS])
            result[top : top + _ROWS] += part.transpose(1, 0, 2)
    return result.reshape(len(matrix), -1)
