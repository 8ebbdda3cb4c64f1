"""The partitioners that people name. Each holds its settings; the arithmetic is in `partition`.

Knows no sources, seeds of a federation or clients.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from umbel.datasets import partition
from umbel.datasets.partition import IndexArray
from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["IidPartitioner", "Partitioner", "RowPartitioner"]


class Partitioner(ABC):
    """Divides one dataset. Give it `dataset` once, then ask for partitions 0 … num_partitions−1."""

    _dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        """The dataset to divide. Raises DataError while there is none, and when a second one is set."""
        if self._dataset is None:
            raise DataError(
                f"This {type(self).__name__} has no dataset yet. "
                "Set its .dataset, or give it to FederatedDataset(partitioners={split: …})."
            )
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Dataset) -> None:
        if self._dataset is not None:
            raise DataError(
                f"This {type(self).__name__} already divides a dataset of {len(self._dataset)} rows. "
                "Make one partitioner per split."
            )
        self._dataset = dataset

    def is_dataset_assigned(self) -> bool:
        """Whether `dataset` has been set."""
        return self._dataset is not None

    @property
    @abstractmethod
    def num_partitions(self) -> int:
        """How many partitions there are."""

    @abstractmethod
    def load_partition(self, partition_id: int) -> Dataset:
        """One partition. Raises DataError where there is none of that number."""


class RowPartitioner(Partitioner):
    """A partitioner that gives each row to one partition at most: a subclass says which in `assign`."""

    @abstractmethod
    def assign(self) -> list[IndexArray]:
        """The rows of `self.dataset` that each partition holds. Called once."""

    @cached_property
    def indices(self) -> list[IndexArray]:
        """What `assign` answered."""
        return self.assign()

    def load_partition(self, partition_id: int) -> Dataset:
        """The rows of one partition, as a view: no row is read or copied."""
        rows = self.indices
        return self.dataset.select(rows[checked_id(partition_id, num_partitions=len(rows))])


class IidPartitioner(RowPartitioner):
    """Equal consecutive parts; IID because a `FederatedDataset` shuffles before it divides.

    Raises DataError where `num_partitions` is not a whole number from 1 up.
    """

    def __init__(self, num_partitions: int) -> None:
        count = whole(num_partitions)
        if count is None or count < 1:
            raise DataError(
                f"num_partitions is {num_partitions!r}, and must be a whole number from 1 up: "
                "how many clients share the data."
            )
        self._num_partitions = count

    @property
    def num_partitions(self) -> int:
        return self._num_partitions

    def assign(self) -> list[IndexArray]:
        return partition.even(len(self.dataset), self._num_partitions)


def checked_id(partition_id: object, *, num_partitions: int) -> int:
    """`partition_id` as an int in 0 … num_partitions−1, or DataError.

    >>> checked_id(2, num_partitions=3)
    2
    """
    index = whole(partition_id)
    if index is None:
        raise DataError(
            f"partition_id is {partition_id!r} ({type(partition_id).__name__}), and must be a whole number "
            f"from 0 to {num_partitions - 1}."
        )
    if not 0 <= index < num_partitions:
        raise DataError(
            f"partition_id is {index}, but there are {num_partitions} partitions: give a number "
            f"from 0 to {num_partitions - 1}, or divide into more."
        )
    return index


def whole(number: object) -> int | None:
    """An int of Python's or numpy's as an int; None for anything else, bool and 3.0 included."""
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        return None
    try:
        return operator.index(number)
    except TypeError:  # an array has __index__ too, and only one of a single integer can use it
        return None
