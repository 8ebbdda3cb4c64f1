"""Partitioners by a column of ids: whoever made a row keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from umbel.datasets import partition
from umbel.datasets.column import labels_of
from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.labels import Labels
from umbel.datasets.partition.natural import Remainder
from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import count, flag, one_of
from umbel.datasets.partitioners.base import Partitioner, RowPartitioner

if TYPE_CHECKING:
    from umbel.datasets.view import Rows

__all__ = ["GroupedNaturalIdPartitioner", "NaturalIdPartitioner", "number_together"]


class _ById(RowPartitioner):
    """What both have in common: whose rows they are is told by a column, and numbers may be shared by several splits."""

    _partition_by: str
    _splits: Sequence[Callable[[], Rows]] = ()  # the splits that are numbered together, in order; () for this one alone
    _own = 0  # this one's place among them

    def number_with(self, splits: Sequence[Callable[[], Rows]], own: int) -> None:
        """Numbers the ids of these splits together, of which this partitioner's dataset is number `own`."""
        self._splits, self._own = splits, own

    @property
    def numbering(self) -> tuple[object, ...]:
        """Partitioners of the same number the same ids alike, if they have the same ids."""
        return type(self).__name__, self._partition_by

    @cached_property
    def _ids_of_all(self) -> list[Labels]:
        rows = [self.dataset if place == self._own else split() for place, split in enumerate(self._splits)]
        found = [labels_of(each, self._partition_by) for each in rows or [self.dataset]]
        return partition.numbered_together(found) if len(found) > 1 else found

    @property
    def _ids(self) -> Labels:
        """The ids of this split's rows."""
        return self._ids_of_all[self._own]


class NaturalIdPartitioner(_ById):
    """One partition per value of column `partition_by`, the values ascending.

    Where a `FederatedDataset` divides several splits by the same column, an id has the same number in all of them: they are
    numbered together, and a split that has no row of an id has an empty partition for it. So it is inside a
    `LocalSplitPartitioner` and a `FeatureShiftPartitioner`, and with `GroupedNaturalIdPartitioner`s of the same settings.
    """

    def __init__(self, partition_by: str) -> None:
        self._partition_by = partition_by

    @property
    def num_partitions(self) -> int:
        return len(self._ids.values)

    @property
    def partition_id_to_natural_id(self) -> dict[int, object]:
        """The id of each partition."""
        return dict(enumerate(self._ids.values))

    def assign(self) -> list[IndexArray]:
        return partition.natural(self._ids)


class GroupedNaturalIdPartitioner(_ById):
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
        self._sort_unique_ids = flag("sort_unique_ids", sort_unique_ids)

    @property
    def numbering(self) -> tuple[object, ...]:
        return *super().numbering, self._group_size, self._mode, self._sort_unique_ids

    @cached_property
    def _groups(self) -> list[IntArray]:
        found = self._ids_of_all
        everywhere = Labels(np.concatenate([ids.codes for ids in found]), found[0].values, found[0].name)
        return partition.groups_of(
            everywhere, group_size=self._group_size, mode=self._mode, sort_unique_ids=self._sort_unique_ids
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


def number_together(splits: Mapping[str, tuple[Partitioner, Callable[[], Rows]]]) -> list[list[str]]:
    """Has partitioners of several splits number the same ids alike. The names of the splits that are numbered together."""
    alike: dict[tuple[object, ...], list[tuple[str, _ById]]] = {}
    for name, (partitioner, _) in splits.items():
        inside: object = partitioner
        while isinstance(inside, Partitioner) and not isinstance(inside, _ById):
            inside = getattr(inside, "_partitioner", None)
        if isinstance(inside, _ById):
            alike.setdefault(inside.numbering, []).append((name, inside))
    together = [group for group in alike.values() if len(group) > 1]
    for group in together:
        rows = [splits[name][1] for name, _ in group]
        for place, (_, partitioner) in enumerate(group):
            partitioner.number_with(rows, place)
    return [[name for name, _ in group] for group in together]
