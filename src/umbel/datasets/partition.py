"""Who gets which rows: pure functions from a size (or labels) and a seed to index arrays.

Knows no datasets, files or classes. Every client process calls these on its own and must get the same answer as all
the others, on every machine and every numpy, so randomness comes from `frozen_stream` only.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["IndexArray", "even", "shuffled"]

IndexArray: TypeAlias = npt.NDArray[np.int64]


def shuffled(size: int, *, seed: int, split: str) -> IndexArray:
    """All of 0 … size−1 in a random order that depends on `size`, `seed` and `split` only.

    >>> shuffled(6, seed=42, split="train").tolist()
    [4, 0, 5, 3, 1, 2]
    """
    return frozen_stream(seed, "datasets", "shuffle", split).permutation(size).astype(np.int64, copy=False)


def even(size: int, num_partitions: int) -> list[IndexArray]:
    """Consecutive runs of rows, as equal as they can be: the first `size % num_partitions` hold one row more.

    IID where the rows come in random order, as `FederatedDataset` hands them over.

    Raises DataError where some partition would be empty.

    >>> [part.tolist() for part in even(7, 3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    if num_partitions > size:
        raise DataError(
            f"{num_partitions} partitions of {size} rows: some would be empty. Ask for at most {size} partitions."
        )
    return np.array_split(np.arange(size, dtype=np.int64), num_partitions)
