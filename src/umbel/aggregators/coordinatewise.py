"""Robust rules that look at one coordinate at a time: median, trimmed mean, mean around the median.

Each takes the K values of every coordinate, as rows of shape (K, n), and may overwrite them. Floats narrower
than float32 are compared as float32, which holds them exactly. Integers stay exact and are rounded half to even; a boolean
is the middle vote, a tie being False, or the majority of what was not trimmed. A result of zero is +0, whatever signs the
zeros among the values have: which of them a minimum returns differs between processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from umbel.aggregators.base import fold
from umbel.aggregators.compiled import gate, suits
from umbel.aggregators.mean import mean
from umbel.aggregators.network import order
from umbel.params import NDArray

__all__ = ["Reduce", "mean_around_median", "median", "trimmed_mean"]

Reduce = Callable[[NDArray], NDArray]


def median(rows: Sequence[NDArray] | NDArray) -> NDArray:
    """The middle value, or the mean of the two middle ones (Yin et al. 2018, "Byzantine-Robust Distributed Learning:
    Towards Optimal Statistical Rates", Definition 1). Shape (n,), the rows' dtype.

    >>> median([np.array([1.0, 5.0]), np.array([2.0, 7.0]), np.array([30.0, 6.0])]).tolist()
    [2.0, 6.0]
    """
    count = len(rows)
    middle = order(_comparable(rows), (count - 1) // 2, count // 2 + 1)
    found = middle[0] if count % 2 else _half_way(*middle)
    return found + found.dtype.type(0) if found.dtype.kind == "f" else found


def trimmed_mean(rows: Sequence[NDArray] | NDArray, cut: int) -> NDArray:
    """The mean of what is left without the `cut` smallest and the `cut` largest values (Yin et al. 2018, Definition 2).

    Shape (n,); floats come as float64. 2·cut must be below K.

    >>> trimmed_mean([np.array([x]) for x in (1.0, 2.0, 4.0, 900.0)], 1).tolist()
    [3.0]
    """
    return _mean(order(_comparable(rows), cut, len(rows) - cut, sort=False) if cut else _comparable(rows))


def mean_around_median(rows: Sequence[NDArray] | NDArray, count: int) -> NDArray:
    """The mean of the `count` values nearest to the median (El Mhamdi et al. 2018, section 4, second step of Bulyan).

    The nearest values are neighbours once sorted; where two such windows are equally wide, it is the lower one. Shape (n,);
    floats come as float64.

    >>> mean_around_median([np.array([x]) for x in (1.0, 2.0, 4.0, 6.0, 900.0)], 3).tolist()
    [4.0]
    """
    ranks = order(_comparable(rows), 0, len(rows))
    if count == len(ranks):
        return _mean(ranks)
    middle = ranks[len(ranks) // 2] if len(ranks) % 2 else _half_way(*ranks[len(ranks) // 2 - 1 : len(ranks) // 2 + 1])
    best = _mean(ranks[:count])
    width = np.maximum(_gap(ranks[0], middle), _gap(middle, ranks[count - 1]))
    for first in range(1, len(ranks) - count + 1):
        other = np.maximum(_gap(ranks[first], middle), _gap(middle, ranks[first + count - 1]))
        nearer = other < width
        np.copyto(best, _mean(ranks[first : first + count]), where=nearer)
        np.copyto(width, other, where=nearer)
    return best


def _comparable(rows: Sequence[NDArray] | NDArray) -> NDArray:
    together = np.asarray(rows)
    narrow = together.dtype.kind == "V" or together.dtype == np.float16
    return together.astype(np.float32) if narrow else together


def _half_way(low: NDArray, high: NDArray) -> NDArray:
    """(low + high) / 2 without overflow, in their dtype."""
    if low.dtype == np.bool_:
        return low & high
    if low.dtype.kind == "f":
        return np.asarray(low * low.dtype.type(0.5) + high * low.dtype.type(0.5))
    floor = (low & high) + ((low ^ high) >> 1)
    return np.asarray(floor + ((low ^ high) & floor & 1))  # a half goes to the even side


def _gap(low: NDArray, high: NDArray) -> NDArray:
    return np.subtract(high, low, dtype=np.float64)  # of integers and booleans, too


def _mean(rows: Sequence[NDArray] | NDArray) -> NDArray:
    """The mean of the rows, added in their order: in float64, integers exactly."""
    if rows[0].dtype.kind != "f":
        return fold(mean(), rows[0].dtype, ((i, row, 1) for i, row in enumerate(rows)), chunk=len(rows))
    total = rows[0].astype(np.float64)
    loops = gate(len(rows) * total.size) if suits(rows[0]) else None
    wide = np.empty_like(total)
    for row in rows[1:]:
        if loops is not None:
            loops.add(total, row, 1.0)
        else:
            np.copyto(wide, row)
            total += wide
    total /= len(rows)
    total += 0.0
    return total
