"""Partitioners of consecutive rows, which differ in size only. IID, because a `FederatedDataset` shuffles first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition import by_size, rows
from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import between, count, counts, seed_of
from umbel.datasets.partitioners.base import CountedPartitioner, partition_count
from umbel.errors import DataError

__all__ = [
    "DirichletSizePartitioner",
    "ExponentialPartitioner",
    "IdToSizeFncPartitioner",
    "IidPartitioner",
    "LinearPartitioner",
    "LogNormalSizePartitioner",
    "SizePartitioner",
    "SquarePartitioner",
]

Units = npt.NDArray[np.generic]


class IidPartitioner(CountedPartitioner):
    """Equal consecutive parts; IID because a `FederatedDataset` shuffles before it divides.

    Raises DataError where `num_partitions` is not a whole number from 1 up.
    """

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = partition_count(num_partitions)

    def assign(self) -> list[IndexArray]:
        return rows.even(len(self.dataset), self._num_partitions)


class SizePartitioner(CountedPartitioner):
    """Partition i has `partition_sizes[i]` rows; rows that are over stay unused."""

    def __init__(self, partition_sizes: Sequence[int]) -> None:
        self._partition_sizes = counts("partition_sizes", partition_sizes, least=1, of="how many rows the partition has")
        self._num_partitions = len(self._partition_sizes)

    def assign(self) -> list[IndexArray]:
        return by_size.of_sizes(len(self.dataset), self._partition_sizes)


class IdToSizeFncPartitioner(CountedPartitioner):
    """Sizes in proportion to `partition_id_to_size_fn` of the numbers 1 … num_partitions, given as one array of float64.

    Rounded down; the last partition takes what is over. A function that calls exp, log or pow answers what this machine's
    mathematics library says: the last bits may differ elsewhere.
    """

    def __init__(self, num_partitions: int, partition_id_to_size_fn: Callable[[npt.NDArray[np.float64]], Units]) -> None:
        self._num_partitions = partition_count(num_partitions)
        if not callable(partition_id_to_size_fn):
            raise DataError(
                f"partition_id_to_size_fn is {partition_id_to_size_fn!r}, and must be a function from the numbers 1 … "
                "num_partitions to sizes, such as numpy.sqrt."
            )
        self._partition_id_to_size_fn = partition_id_to_size_fn

    @property
    def partition_id_to_size(self) -> dict[int, int]:
        """The size of each partition."""
        return {number: len(part) for number, part in enumerate(self.indices)}

    def assign(self) -> list[IndexArray]:
        units = np.asarray(self._partition_id_to_size_fn(np.arange(1, self._num_partitions + 1, dtype=np.float64)))
        if units.shape != (self._num_partitions,) or units.dtype.kind not in "iuf":
            raise DataError(
                f"partition_id_to_size_fn answered {units.dtype} of shape {units.shape}, and must answer a number for each "
                f"of the {self._num_partitions} partitions, given all their numbers in one array."
            )
        return by_size.in_units(len(self.dataset), units)


class LinearPartitioner(CountedPartitioner):
    """Partition i has i+1 units of rows, rounded down; the last takes what is over."""

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = partition_count(num_partitions)

    def assign(self) -> list[IndexArray]:
        return by_size.in_units(len(self.dataset), np.arange(1, self._num_partitions + 1, dtype=np.float64))


class SquarePartitioner(CountedPartitioner):
    """Partition i has (i+1)² units of rows, rounded down; the last takes what is over."""

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = partition_count(num_partitions)

    def assign(self) -> list[IndexArray]:
        return by_size.in_units(len(self.dataset), np.arange(1, self._num_partitions + 1, dtype=np.float64) ** 2)


class ExponentialPartitioner(CountedPartitioner):
    """Partition i has e^(i+1) units of rows, rounded down; the last takes what is over, 63 % and more."""

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = partition_count(num_partitions)

    def assign(self) -> list[IndexArray]:
        return by_size.in_units(len(self.dataset), by_size.exponential_units(self._num_partitions))


class DirichletSizePartitioner(CountedPartitioner):
    """Quantity skew: sizes ~ Dirichlet(alpha) on top of `min_partition_size` rows each. See `partition.dirichlet_sizes`."""

    def __init__(self, num_partitions: int, alpha: float = 0.5, *, min_partition_size: int = 1, seed: int = 42) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._alpha = between("alpha", alpha, 1e-6, 1e9, of="0.1 for sizes that differ widely, 100 for nearly equal ones")
        self._min_partition_size = count("min_partition_size", min_partition_size, least=0, of="rows that everyone has")
        self._seed = seed_of(seed)

    def assign(self) -> list[IndexArray]:
        return by_size.dirichlet_sizes(
            len(self.dataset),
            self._num_partitions,
            alpha=self._alpha,
            min_partition_size=self._min_partition_size,
            seed=self._seed,
        )


class LogNormalSizePartitioner(CountedPartitioner):
    """Quantity skew: log-normal sizes on top of `min_partition_size` rows each. See `partition.lognormal_sizes`."""

    def __init__(self, num_partitions: int, sigma: float = 1.0, *, min_partition_size: int = 1, seed: int = 42) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._sigma = between("sigma", sigma, 0.0, math.inf, of="0 for equal sizes, 2 for a long tail")
        self._min_partition_size = count("min_partition_size", min_partition_size, least=0, of="rows that everyone has")
        self._seed = seed_of(seed)

    def assign(self) -> list[IndexArray]:
        return by_size.lognormal_sizes(
            len(self.dataset),
            self._num_partitions,
            sigma=self._sigma,
            min_partition_size=self._min_partition_size,
            seed=self._seed,
        )
