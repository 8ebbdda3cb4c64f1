"""What every partitioner is: a data set in, partitions out. Knows no sources, seeds of a federation or clients."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import count, whole
from umbel.errors import DataError

if TYPE_CHECKING:
    from umbel.datasets.view import Rows

__all__ = ["CountedPartitioner", "Partitioner", "RowPartitioner", "checked_id", "partition_count"]

_log = logging.getLogger("umbel.datasets")


class Partitioner(ABC):
    """Divides one dataset. Give it `dataset` once, then ask for partitions 0 … num_partitions−1."""

    _dataset: Rows | None = None
    _promised: Callable[[], Rows] | None = None

    @property
    def dataset(self) -> Rows:
        """The dataset to divide. Raises DataError while there is none, and when a second one is set."""
        if (promised := self._promised) is not None:  # kept here, for another thread may be asking too
            self._dataset, self._promised = promised(), None
        if self._dataset is None:
            raise DataError(
                f"This {type(self).__name__} has no dataset yet. "
                "Set its .dataset, or give it to FederatedDataset(partitioners={split: …})."
            )
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Rows) -> None:
        self._check_free()
        _check_rows(type(self).__name__, dataset)
        self._dataset = dataset

    def promise(self, dataset: Callable[[], Rows]) -> None:
        """Set `dataset` to what this answers; it is asked when somebody needs the data. Raises as setting `dataset` does."""
        self._check_free()
        self._promised = dataset

    def is_dataset_assigned(self) -> bool:
        """Whether `dataset` has been set, or promised."""
        return self._dataset is not None or self._promised is not None

    def _check_free(self) -> None:
        if self.is_dataset_assigned():
            raise DataError(
                f"This {type(self).__name__} already divides a dataset of {len(self.dataset)} rows. "
                "Make one partitioner per split."
            )

    @property
    @abstractmethod
    def num_partitions(self) -> int:
        """How many partitions there are."""

    @abstractmethod
    def load_partition(self, partition_id: int) -> Rows:
        """One partition. Raises DataError where there is none of that number."""


def _check_rows(partitioner: str, dataset: object) -> None:
    """Raises DataError for what people set as a dataset, and is none that can be divided."""
    if all(hasattr(dataset, name) for name in ("__len__", "select", "column_names")) and not isinstance(dataset, Mapping):
        return
    kind = type(dataset).__name__
    if isinstance(dataset, Mapping):  # a DatasetDict
        first = next(iter(dataset), "train")
        remedy = f"it divides one split: set .dataset = splits[{first!r}]"
    elif hasattr(dataset, "__iter__") and hasattr(dataset, "column_names"):
        remedy = "a stream has no length: load it without streaming=True"
    else:
        remedy = "give it a datasets.Dataset, or give the data to FederatedDataset(dataset=…, partitioners={'train': …})"
    raise DataError(f"This {partitioner} was given {'an' if kind[0] in 'AEIOU' else 'a'} {kind}; {remedy}.")


class RowPartitioner(Partitioner):
    """A partitioner that gives each row to one partition at most: a subclass says which in `assign`."""

    @abstractmethod
    def assign(self) -> list[IndexArray]:
        """The rows of `self.dataset` that each partition holds. Called once."""

    @cached_property
    def indices(self) -> list[IndexArray]:
        """What `assign` answered."""
        parts = self.assign()
        used, size = sum(map(len, parts)), len(self.dataset)
        if used < size:
            _log.warning("%s leaves %d of %d rows to nobody.", type(self).__name__, size - used, size)
        return parts

    def load_partition(self, partition_id: int) -> Rows:
        """The rows of one partition, as a view: no row is read or copied."""
        rows = self.indices
        return self.dataset.select(rows[checked_id(partition_id, num_partitions=len(rows))])


class CountedPartitioner(RowPartitioner):
    """A row partitioner that knows from the start how many partitions it makes."""

    _num_partitions: int

    @property
    def num_partitions(self) -> int:
        return self._num_partitions


def partition_count(value: object) -> int:
    """`num_partitions` as people give it, or DataError."""
    return count("num_partitions", value, of="how many clients share the data")


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
