"""The order in which updates are added up, which is part of the result.

Knows blocks of coordinates (1-d arrays) and weights; knows no files, clients or rounds.

Floating-point addition is not associative, so "the sum of the updates" means nothing before an order is fixed. Here it
is: tasks are numbered; ⌈cohort / 64⌉ consecutive tasks are a chunk; a chunk's updates are added in task order, and the
chunks' partial results are merged in chunk order. The chunks depend on the cohort alone, so any number of workers up to
64 can add up whole chunks side by side and the bits stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from umbel.aggregators.accumulators import PLAIN, Wire
from umbel.params import DType, NDArray

__all__ = ["Aggregator", "chunk_size", "fold"]

MAX_CHUNKS = 64
_FLOAT32 = np.dtype(np.float32)


class Aggregator(NamedTuple):
    """A way of combining updates whose partial results merge.

    - `init(dtype)` → an empty partial result for blocks of the model's `dtype`
    - `add(acc, block, weight)` → adds one update's block, shape `(n,)`, any real dtype, into `acc` and returns it
    - `merge(acc, other)` → adds the partial result `other`, of later tasks, into `acc` and returns it
    - `finish(acc, dtype)` → the combined block, shape `(n,)`, of `dtype`: the model's, or float64 for integers that every
      update answered with floats
    - `wire` → how a partial result travels from who folds to who merges; without one it is an array or a number, or a tuple
      or dict of them

    The accumulator is the aggregator's own; nobody else looks inside.
    """

    init: Callable[[DType], Any]
    add: Callable[[Any, NDArray, float], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any, DType], NDArray]
    wire: Wire = PLAIN

    @property
    def travels(self) -> bool:
        """Whether `wire` can write what this aggregator adds up; tried with one number."""
        try:
            self.wire.write(self.add(self.init(_FLOAT32), np.ones(1, _FLOAT32), 1.0))
        except TypeError:
            return False
        return True


def chunk_size(cohort: int) -> int:
    """Number of consecutive tasks whose updates are added before they are merged.

    >>> chunk_size(3), chunk_size(64), chunk_size(65), chunk_size(1000)
    (1, 1, 2, 16)
    """
    return -(-cohort // MAX_CHUNKS)


def fold(
    aggregator: Aggregator,
    dtype: DType,
    blocks: Iterable[tuple[int, NDArray, float]],
    *,
    chunk: int,
) -> NDArray:
    """Combines `(task index, block, weight)`, ascending in the index, in the fixed order.

    A block may be overwritten once the next one is asked for.

    >>> import numpy as np
    >>> from umbel.aggregators import mean
    >>> one, three = np.array([1.0, 2.0]), np.array([5.0, 6.0])
    >>> fold(mean(), np.dtype("float64"), [(0, one, 1), (2, three, 3)], chunk=2).tolist()
    [4.0, 5.0]
    """
    total = part = None
    current = -1
    for index, block, weight in blocks:
        if index // chunk != current:
            total = part if total is None else aggregator.merge(total, part)
            part, current = aggregator.init(dtype), index // chunk
        part = aggregator.add(part, block, weight)
    return aggregator.finish(part if total is None else aggregator.merge(total, part), dtype)
