"""Partitions made of partitions: moving from one to another, regions of clients, splits within a client."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.rows import IndexArray, handed_out
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["divided", "drifted", "nested"]


def drifted(
    before: Sequence[IndexArray], after: Sequence[IndexArray], *, step: int, num_steps: int, seed: int = 42
) -> list[IndexArray]:
    """Where the rows are at `step` of the way from `before` (step 0) to `after` (step `num_steps`).

    Every row has its moment, drawn once: until then its owner is that of `before`, from then on that of `after`. So a
    share of step / num_steps of all rows has moved, within one row, and no row ever has two owners. A row that one of
    the two leaves unused comes or goes at its moment. Rows of a partition ascend.

    Gradual drift between clients, as in Jothimurugesan et al. (2023), "Federated Learning under Distributed Concept
    Drift", arXiv:2206.00799.

    Raises DataError where the two have different numbers of partitions.

    >>> before, after = [np.array([0, 1]), np.array([2, 3])], [np.array([2, 3]), np.array([0, 1])]
    >>> [[part.tolist() for part in drifted(before, after, step=step, num_steps=2)] for step in (0, 1, 2)]
    [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[2, 3], [0, 1]]]
    """
    if len(before) != len(after):
        raise DataError(
            f"A drift from {len(before)} partitions to {len(after)}: every client needs a part at both ends. "
            "Divide into the same number before and after."
        )
    size = 1 + max((int(part.max()) for part in (*before, *after) if len(part)), default=-1)
    moment = frozen_stream(seed, "datasets", "drift").permutation(size)
    moved = moment < size * step // num_steps
    owners = np.where(moved, _owners(after, size), _owners(before, size))
    return handed_out(np.arange(size), owners, len(before) + 1)[:-1]


def _owners(parts: Sequence[IndexArray], size: int) -> IntArray:
    """The partition of each of `size` rows; len(parts) where there is none."""
    owners = np.full(size, len(parts), dtype=np.int64)
    for number, rows in enumerate(parts):
        owners[rows] = number
    return owners


def nested(outer: IndexArray, inner: Sequence[IndexArray]) -> list[IndexArray]:
    """Partitions of a partition: `inner` counts within `outer`, the answer within the whole.

    >>> [part.tolist() for part in nested(np.array([4, 6, 8]), [np.array([0, 2]), np.array([1])])]
    [[4, 8], [6]]
    """
    return [outer[part] for part in inner]


def divided(rows: IndexArray, fractions: Sequence[float], *, seed: int = 42, partition_id: int = 0) -> list[IndexArray]:
    """The rows of one client at random into splits of about `fractions` of them, each within one row of its due.

    Fractions that add up to less than 1 leave rows unused. A client's splits depend on `seed`, its `partition_id` and its
    number of rows only.

    >>> [len(part) for part in divided(np.arange(10), [0.8, 0.1, 0.1])]
    [8, 1, 1]
    """
    bounds = np.floor(np.cumsum([0.0, *fractions]) * len(rows) + 1e-9).astype(np.int64)
    order = rows[frozen_stream(seed, "datasets", "local-splits", partition_id).permutation(len(rows))]
    return [order[start:end] for start, end in pairwise(bounds)]
