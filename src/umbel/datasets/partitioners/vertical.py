"""Vertical partitioners: everyone has all rows, and some of the columns."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from umbel.datasets.partition import columns
from umbel.datasets.partition.columns import ActiveParty
from umbel.datasets.partitioners.arguments import between, counts, flag, names, one_of, seed_of, whole
from umbel.datasets.partitioners.base import Partitioner, checked_id, partition_count
from umbel.errors import DataError

if TYPE_CHECKING:
    from umbel.datasets.view import Rows

__all__ = ["VerticalEvenPartitioner", "VerticalSizePartitioner"]


class VerticalPartitioner(Partitioner):
    """Columns by roles: the active party's go where its mode says, shared ones to all, dropped ones to nobody.

    The others are divided, in a random order where `shuffle`; a subclass says how in `divide`.
    """

    def __init__(
        self,
        active_party_columns: str | list[str] | None,
        active_party_columns_mode: str | int,
        drop_columns: str | list[str] | None,
        shared_columns: str | list[str] | None,
        shuffle: bool,
        seed: int,
    ) -> None:
        self._active = names("active_party_columns", active_party_columns)
        number = whole(active_party_columns_mode)
        self._mode = (
            one_of("active_party_columns_mode", ActiveParty, active_party_columns_mode) if number is None else number
        )
        self._drop = names("drop_columns", drop_columns)
        self._shared = names("shared_columns", shared_columns)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    @abstractmethod
    def divide(self, core: list[str]) -> list[list[str]]:
        """The columns without a role, partition by partition."""

    @cached_property
    def columns(self) -> list[list[str]]:
        """The columns of each partition."""
        core = columns.core_columns(
            self.dataset.column_names,
            active=self._active,
            drop=self._drop,
            shared=self._shared,
            shuffle=self._shuffle,
            seed=self._seed,
        )
        return columns.with_parties(self.divide(core), active=self._active, mode=self._mode, shared=self._shared)

    @property
    def num_partitions(self) -> int:
        return len(self.columns)

    def load_partition(self, partition_id: int) -> Rows:
        """All rows, with the columns of one partition."""
        return self.dataset.select_columns(self.columns[checked_id(partition_id, num_partitions=len(self.columns))])


class VerticalEvenPartitioner(VerticalPartitioner):
    """The columns divided evenly; the first partitions have one more.

    `active_party_columns` (labels, as a rule) go to the partition that `active_party_columns_mode` says: "add_to_first",
    "add_to_last", "create_as_first", "create_as_last" (a partition of their own), "add_to_all", or its number.
    """

    def __init__(
        self,
        num_partitions: int,
        active_party_columns: str | list[str] | None = None,
        active_party_columns_mode: str | int = "add_to_last",
        drop_columns: str | list[str] | None = None,
        shared_columns: str | list[str] | None = None,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        super().__init__(active_party_columns, active_party_columns_mode, drop_columns, shared_columns, shuffle, seed)
        self._wanted = partition_count(num_partitions)

    def divide(self, core: list[str]) -> list[list[str]]:
        return columns.evenly(core, self._wanted)


class VerticalSizePartitioner(VerticalPartitioner):
    """`partition_sizes[i]` columns, or that fraction of them (the last takes what is over), to partition i.

    Sizes count the columns that are divided: without the active party's, the shared and the dropped ones. Whole numbers
    must add up to all of them, fractions to 1. The other parameters are as in `VerticalEvenPartitioner`.
    """

    def __init__(
        self,
        partition_sizes: list[int] | list[float],
        active_party_columns: str | list[str] | None = None,
        active_party_columns_mode: str | int = "add_to_last",
        drop_columns: str | list[str] | None = None,
        shared_columns: str | list[str] | None = None,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        super().__init__(active_party_columns, active_party_columns_mode, drop_columns, shared_columns, shuffle, seed)
        self._counts: list[int] = []
        self._fractions: list[float] = []
        if isinstance(partition_sizes, (list, tuple)) and partition_sizes and isinstance(partition_sizes[0], float):
            self._fractions = [
                between(f"partition_sizes[{place}]", value, 0.0, 1.0, of="a share of the columns; give all as shares")
                for place, value in enumerate(partition_sizes)
            ]
            if not 0.99 < sum(self._fractions) < 1.01:
                raise DataError(
                    f"partition_sizes are shares that add up to {sum(self._fractions):g}, and must add up to 1. "
                    "Correct them, or give numbers of columns."
                )
        else:
            self._counts = counts(
                "partition_sizes", partition_sizes, least=0, of="how many columns the partition has, or shares of them"
            )

    def divide(self, core: list[str]) -> list[list[str]]:
        if self._fractions:
            return columns.by_fraction(core, self._fractions)
        return columns.in_counts(core, self._counts)
