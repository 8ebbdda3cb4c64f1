"""Index arrays: putting rows in order, cutting them and handing them out. The pieces that every scheme shares.

Knows no datasets, files or classes. Every client process calls these on its own and must get the same answer as all
the others, on every machine and every numpy, so randomness comes from `frozen_stream` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import IntArray
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["IndexArray", "at_most_rows", "consecutive", "cuts", "even", "handed_out", "mixed", "shuffled", "stable_order"]

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
    at_most_rows(num_partitions, size)
    return np.array_split(np.arange(size, dtype=np.int64), num_partitions)


def at_most_rows(num_partitions: int, size: int) -> None:
    """DataError where there are more partitions than rows."""
    if num_partitions > size:
        raise DataError(
            f"{num_partitions} partitions of {size} rows: some would be empty. Ask for at most {size} partitions."
        )


def consecutive(sizes: Sequence[int] | IntArray) -> list[IndexArray]:
    """Runs of `sizes` rows, one after the other from row 0 on.

    >>> [part.tolist() for part in consecutive([2, 0, 1])]
    [[0, 1], [], [2]]
    """
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    return np.split(np.arange(int(ends[-1]), dtype=np.int64), ends[:-1])


def cuts(weights: IntArray, amounts: IntArray | int) -> IntArray:
    """`amounts` things (shape ...) divided in proportion to `weights` (shape ..., shares), in whole things.

    A share runs from the floor of its lower bound to the floor of its upper one, so it is within one of its due and the
    shares add up. Weights are integers: their sums have no rounding that could differ between machines.

    >>> cuts(np.array([1, 1, 2]), 10).tolist()
    [2, 3, 5]
    """
    ends = np.cumsum(weights, axis=-1, dtype=np.int64)
    bounds = np.floor(ends / ends[..., -1:] * np.asarray(amounts, dtype=np.int64)[..., np.newaxis]).astype(np.int64)
    return np.diff(bounds, axis=-1, prepend=0)


def stable_order(keys: IntArray) -> IndexArray:
    """The rows by ascending key ≥ 0, rows of one key in their own order.

    >>> stable_order(np.array([1, 0, 1, 0])).tolist()
    [1, 3, 0, 2]
    """
    if len(keys) and keys.max() < 2**16:
        keys = keys.astype(np.uint16)  # radix sort: 1 M rows in 0.01 s instead of 0.1 s
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def handed_out(rows: IndexArray, owners: IntArray, num_partitions: int) -> list[IndexArray]:
    """`rows[i]` to partition `owners[i]`; each keeps the order in which its rows came.

    >>> [part.tolist() for part in handed_out(np.array([7, 8, 9]), np.array([1, 0, 1]), 2)]
    [[8], [7, 9]]
    """
    ends = np.cumsum(np.bincount(owners, minlength=num_partitions))
    return np.split(rows[stable_order(owners)], ends[:-1])


def mixed(parts: list[IndexArray], *, seed: int, scheme: str) -> list[IndexArray]:
    """The same rows, those of each partition in a random order.

    >>> [sorted(part.tolist()) for part in mixed(even(5, 2), seed=1, scheme="iid")]
    [[0, 1, 2], [3, 4]]
    """
    rng = frozen_stream(seed, "datasets", scheme, "mix")
    return [part[rng.permutation(len(part))] for part in parts]
