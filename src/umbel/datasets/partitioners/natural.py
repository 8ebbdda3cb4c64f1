"""Partitioners by a column of ids: whoever made a row keeps it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from umbel.datasets import partition
from umbel.datasets.column import labels_of
from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.labels import Labels
from umbel.datasets.partition.natural import Remainder
from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import count, one_of
from umbel.datasets.partitioners.base import RowPartitioner

__all__ = ["GroupedNaturalIdPartitioner", "NaturalIdPartitioner"]


class NaturalIdPartitioner(RowPartitioner):
    """One partition per value of column `partition_by`, the values ascending."""

    def __init__(self, partition_by: str) -> None:
        self._partition_by = partition_by

    @cached_property
    def _ids(self) -> Labels:
        return labels_of(self.dataset, self._partition_by)

    @property
    def num_partitions(self) -> int:
        return len(self._ids.values)

    @property
    def partition_id_to_natural_id(self) -> dict[int, object]:
        """The id of each partition."""
        return dict(enumerate(self._ids.values))

    def assign(self) -> list[IndexArray]:
        return partition.natural(self._ids)


class GroupedNaturalIdPartitioner(RowPartitioner):
    """One partition per `group_size` values of column `partition_by`: hospitals of many patients.

    Ids are grouped as they appear, or ascending where `sort_unique_ids`. `mode` says what becomes of those that are over:
    "allow-smaller" (a last group of fewer), "allow-bigger" (the first groups have one more), "drop-reminder" or "strict"
    (DataError).
    """

    def __init__(
        self, partition_by: str, group_size: int, mode: str = "allow-smaller", sort_unique_ids: bool = False
    ) -> None:
        self._partition_by = partition_by
        self._group_size = count("group_size", group_size, of="how many ids share a partition")
        self._mode = one_of("mode", Remainder, mode)
        self._sort_unique_ids = bool(sort_unique_ids)

    @cached_property
    def _ids(self) -> Labels:
        return labels_of(self.dataset, self._partition_by)

    @cached_property
    def _groups(self) -> list[IntArray]:
        return partition.groups_of(
            self._ids, group_size=self._group_size, mode=self._mode, sort_unique_ids=self._sort_unique_ids
        )

    @property
    def num_partitions(self) -> int:
        return len(self._groups)

    @property
    def partition_id_to_natural_ids(self) -> dict[int, list[object]]:
        """The ids of each partition."""
        return {number: [self._ids.values[one] for one in group] for number, group in enumerate(self._groups)}

    @property
    def natural_id_to_partition_id(self) -> dict[object, int]:
        """The partition of each id; ids that were dropped are not in it."""
        return {one: number for number, ids in self.partition_id_to_natural_ids.items() for one in ids}

    def assign(self) -> list[IndexArray]:
        return partition.grouped(self._ids, [np.asarray(group) for group in self._groups])
