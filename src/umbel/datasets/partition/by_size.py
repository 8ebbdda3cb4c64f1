"""Partitions that differ in size only: consecutive rows, of sizes that are given, computed or drawn.

IID where the rows come in random order, as `FederatedDataset` hands them over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.dirichlet import alphas
from umbel.datasets.partition.draws import IntArray, dirichlet_weights, exp, normal, weights_of_logs
from umbel.datasets.partition.rows import IndexArray, at_most_rows, consecutive, cuts
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["dirichlet_sizes", "exponential_units", "in_units", "lognormal_sizes", "of_sizes"]


def of_sizes(size: int, partition_sizes: Sequence[int]) -> list[IndexArray]:
    """The first `partition_sizes[0]` rows, the next `partition_sizes[1]`, and so on; what is over stays unused.

    Raises DataError where there are too few rows.

    >>> [part.tolist() for part in of_sizes(6, [1, 3])]
    [[0], [1, 2, 3]]
    """
    wanted = sum(partition_sizes)
    if wanted > size:
        raise DataError(
            f"partition_sizes add up to {wanted} rows, and there are {size}. "
            f"Make them {wanted - size} rows smaller together."
        )
    return consecutive(partition_sizes)


def in_units(size: int, units: npt.NDArray[np.generic]) -> list[IndexArray]:
    """Sizes in proportion to `units` (one per partition), rounded down; the last partition takes what is over.

    Raises DataError where a unit is negative or not finite, and where a partition would be empty.

    >>> [len(part) for part in in_units(10, np.array([1.0, 2.0, 3.0]))]
    [1, 3, 6]
    """
    numbers = units.astype(np.float64)
    if wrong := np.flatnonzero(~np.isfinite(numbers) | (numbers < 0)).tolist():
        raise DataError(
            f"The size of partition {wrong[0]} is {numbers[wrong[0]]}, and must be a finite number from 0 up. "
            "Change partition_id_to_size_fn, or ask for fewer partitions."
        )
    with np.errstate(invalid="ignore"):  # all of them 0: every size is then 0 below
        shares = np.nan_to_num(numbers / np.sum(numbers))
    sizes = (shares * size).astype(np.int64)
    sizes[-1] += size - int(sizes.sum())
    if (empty := int((sizes < 1).sum())) > 0:
        raise DataError(
            f"{empty} of {len(sizes)} partitions of {size} rows would be empty, the first of them number "
            f"{int(np.argmax(sizes < 1))}; each needs a row. Ask for fewer partitions, or for sizes that differ less."
        )
    return consecutive(sizes)


def exponential_units(num_partitions: int) -> npt.NDArray[np.float64]:
    """e¹ … eᴺ, all divided by eᴺ so that none is infinite. shape (num_partitions,)."""
    return exp(np.arange(1, num_partitions + 1, dtype=np.float64) - num_partitions)


def dirichlet_sizes(size: int, num_partitions: int, *, alpha: float, min_partition_size: int, seed: int) -> list[IndexArray]:
    """Quantity skew: shares ~ Dirichlet(alpha, …, alpha). Small `alpha`: a few clients have nearly everything.

    Everyone has `min_partition_size` rows first; the others are divided. All rows are used. Li et al. (2022),
    "Federated Learning on Non-IID Data Silos", arXiv:2102.02079, section 4.3, without a minimum there.

    Raises DataError where the minimum cannot be had, and as `alphas` does.

    >>> parts = dirichlet_sizes(100, 4, alpha=0.5, min_partition_size=5, seed=1)
    >>> sum(len(part) for part in parts), min(len(part) for part in parts) >= 5
    (100, True)
    """
    rng = frozen_stream(seed, "datasets", "dirichlet-sizes")
    weights = dirichlet_weights(rng, alphas(alpha, num_partitions, per="partition"), 1)[0]
    return _skewed(size, weights, min_partition_size)


def lognormal_sizes(size: int, num_partitions: int, *, sigma: float, min_partition_size: int, seed: int) -> list[IndexArray]:
    """Quantity skew: sizes in proportion to e^(sigma·z), z standard normal. sigma 0: all equal; 2: a long tail.

    Everyone has `min_partition_size` rows first; the others are divided. All rows are used. Sizes of this kind are in
    Li et al. (2020), "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127, appendix C.1.

    Raises DataError where the minimum cannot be had.

    >>> [len(part) for part in lognormal_sizes(8, 4, sigma=0.0, min_partition_size=1, seed=1)]
    [2, 2, 2, 2]
    """
    rng = frozen_stream(seed, "datasets", "lognormal-sizes")
    return _skewed(size, weights_of_logs(float(sigma) * normal(rng, num_partitions)), min_partition_size)


def _skewed(size: int, weights: IntArray, min_partition_size: int) -> list[IndexArray]:
    at_most_rows(len(weights), size)
    reserved = len(weights) * min_partition_size
    if reserved > size:
        raise DataError(
            f"min_partition_size is {min_partition_size}: {len(weights)} partitions need {reserved} rows, and there are "
            f"{size}. Set it to at most {size // len(weights)}, or ask for fewer partitions."
        )
    return consecutive(min_partition_size + cuts(weights, size - reserved))
