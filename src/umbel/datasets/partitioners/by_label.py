"""Partitioners by a column of labels: `partition_by` names it. Parameters and defaults are those of flwr-datasets 0.6.1.

`shuffle` puts the rows within each partition in a random order; otherwise they come class by class. All clients must use
the same `seed`. The definitions, their papers and what they raise are in `umbel.datasets.partition`, under the same names.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from umbel.datasets import partition
from umbel.datasets.column import labels_of, values_of
from umbel.datasets.partition.dirichlet import alphas
from umbel.datasets.partition.labels import Labels, classes_of
from umbel.datasets.partition.rows import IndexArray, at_most_rows, mixed
from umbel.datasets.partitioners.arguments import between, count, counts, flag, numbers, one_of, seed_of
from umbel.datasets.partitioners.base import CountedPartitioner, partition_count
from umbel.errors import DataError

__all__ = [
    "ContinuousPartitioner",
    "DirichletPartitioner",
    "DistributionPartitioner",
    "InnerDirichletPartitioner",
    "PathologicalPartitioner",
    "ShardPartitioner",
]

Alpha = float | Sequence[float] | npt.NDArray[np.generic]


class LabelPartitioner(CountedPartitioner):
    """Rows by the labels in one column; a subclass says which in `divide`."""

    _partition_by: str
    _shuffle: bool
    _seed: int

    @abstractmethod
    def divide(self, labels: Labels) -> list[IndexArray]:
        """The rows of each partition, class by class."""

    def assign(self) -> list[IndexArray]:
        at_most_rows(self._num_partitions, len(self.dataset))
        parts = self.divide(labels_of(self.dataset, self._partition_by))
        return mixed(parts, seed=self._seed, scheme=type(self).__name__) if self._shuffle else parts


class DirichletPartitioner(LabelPartitioner):
    """Each class is divided among the partitions in shares ~ Dirichlet(alpha): small alpha, few owners per class.

    `alpha`: a number, or one per partition. Draws again, up to 11 times, until everyone has `min_partition_size` rows.
    """

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        alpha: Alpha,
        min_partition_size: int = 10,
        self_balancing: bool = False,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._partition_by = partition_by
        self._alpha = alphas(alpha, self._num_partitions, per="partition")
        self._min_partition_size = count("min_partition_size", min_partition_size, least=0, of="rows that everyone has")
        self._self_balancing = flag("self_balancing", self_balancing)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def divide(self, labels: Labels) -> list[IndexArray]:
        return partition.dirichlet(
            labels,
            num_partitions=self._num_partitions,
            alpha=self._alpha,
            min_partition_size=self._min_partition_size,
            self_balancing=self._self_balancing,
            seed=self._seed,
        )


class InnerDirichletPartitioner(LabelPartitioner):
    """Partitions of given sizes, each with a mix of classes ~ Dirichlet(alpha): a number, or one per class."""

    def __init__(
        self,
        partition_sizes: Sequence[int] | npt.NDArray[np.generic],
        partition_by: str,
        alpha: Alpha,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        self._partition_sizes = counts("partition_sizes", partition_sizes, least=0, of="how many rows the partition has")
        self._num_partitions = len(self._partition_sizes)
        self._partition_by = partition_by
        self._alpha = numbers("alpha", alpha, of="a positive number, or a list of one per class")
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def divide(self, labels: Labels) -> list[IndexArray]:
        return partition.inner_dirichlet(labels, partition_sizes=self._partition_sizes, alpha=self._alpha, seed=self._seed)


class ClassAssignment(StrEnum):
    """Which classes a partition gets: any; its own number and any others; or its own number and the next ones."""

    RANDOM = "random"
    DETERMINISTIC = "deterministic"
    FIRST_DETERMINISTIC = "first-deterministic"


class PathologicalPartitioner(LabelPartitioner):
    """Each partition has exactly `num_classes_per_partition` classes; a class is divided evenly among those who have it.

    `class_assignment_mode`: "random"; "deterministic" (partition p has classes p, p+1, …, counted round); or
    "first-deterministic" (class p, the others at random), which is the paper's. Classes that nobody has stay unused.
    """

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        num_classes_per_partition: int,
        class_assignment_mode: str = "random",
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._partition_by = partition_by
        self._each = count("num_classes_per_partition", num_classes_per_partition, of="how many labels a partition has")
        self._mode = one_of("class_assignment_mode", ClassAssignment, class_assignment_mode)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def divide(self, labels: Labels) -> list[IndexArray]:
        classes = len(classes_of(labels).values)
        if self._each > classes:
            raise DataError(
                f"num_classes_per_partition is {self._each}, and column {labels.name!r} has {classes} different labels. "
                f"Set it to at most {classes}."
            )
        match self._mode:
            case ClassAssignment.RANDOM:
                chosen = partition.classes_at_random(self._num_partitions, classes, self._each, seed=self._seed)
            case ClassAssignment.DETERMINISTIC:
                chosen = partition.classes_in_turn(self._num_partitions, classes, self._each)
            case ClassAssignment.FIRST_DETERMINISTIC:
                chosen = partition.first_class_in_turn(self._num_partitions, classes, self._each, seed=self._seed)
        return partition.pathological(labels, chosen)


class ShardPartitioner(LabelPartitioner):
    """The rows sorted by label, cut into shards, and the shards dealt at random.

    Give `num_shards_per_partition` (as many shards for each, as large as they can be), `shard_size` (all shards are
    dealt), or both. A last shard that is smaller is dealt only where `keep_incomplete_shard`.
    """

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        num_shards_per_partition: int | None = None,
        shard_size: int | None = None,
        keep_incomplete_shard: bool = False,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._partition_by = partition_by
        if num_shards_per_partition is None and shard_size is None:
            raise DataError("Neither num_shards_per_partition nor shard_size is given: give one, or both.")
        self._num_shards_per_partition = (
            None
            if num_shards_per_partition is None
            else count("num_shards_per_partition", num_shards_per_partition, of="how many shards a partition gets")
        )
        self._shard_size = None if shard_size is None else count("shard_size", shard_size, of="how many rows a shard has")
        self._keep_incomplete_shard = flag("keep_incomplete_shard", keep_incomplete_shard)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def divide(self, labels: Labels) -> list[IndexArray]:
        return partition.shards(
            labels,
            num_partitions=self._num_partitions,
            num_shards_per_partition=self._num_shards_per_partition,
            shard_size=self._shard_size,
            keep_incomplete_shard=self._keep_incomplete_shard,
            seed=self._seed,
        )


class DistributionPartitioner(LabelPartitioner):
    """Each class divided after its row of `distribution_array`. See `partition.distribution`."""

    def __init__(
        self,
        distribution_array: npt.NDArray[np.generic] | Sequence[Sequence[float]],
        num_partitions: int,
        num_unique_labels_per_partition: int,
        partition_by: str,
        preassigned_num_samples_per_label: int,
        rescale: bool = True,
        shuffle: bool = True,
        seed: int = 42,
    ) -> None:
        self._distribution_array = numbers("distribution_array", distribution_array, of="a row of shares per class")
        self._num_partitions = partition_count(num_partitions)
        self._each = count(
            "num_unique_labels_per_partition", num_unique_labels_per_partition, of="how many labels a partition has"
        )
        self._partition_by = partition_by
        self._preassigned = count(
            "preassigned_num_samples_per_label",
            preassigned_num_samples_per_label,
            least=0,
            of="rows of each of its labels that everyone has",
        )
        self._rescale = flag("rescale", rescale)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def divide(self, labels: Labels) -> list[IndexArray]:
        return partition.distribution(
            labels,
            distribution_array=self._distribution_array,
            num_partitions=self._num_partitions,
            num_unique_labels_per_partition=self._each,
            preassigned_num_samples_per_label=self._preassigned,
            rescale=self._rescale,
            seed=self._seed,
        )


class ContinuousPartitioner(CountedPartitioner):
    """Even parts along a measured column: `strictness` 1 by rank, 0 at random. See `partition.continuous`."""

    def __init__(
        self, num_partitions: int, partition_by: str, strictness: float, shuffle: bool = True, seed: int = 42
    ) -> None:
        self._num_partitions = partition_count(num_partitions)
        self._partition_by = partition_by
        self._strictness = between("strictness", strictness, 0.0, 1.0, of="0 for a random division, 1 for one by rank")
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed_of(seed)

    def assign(self) -> list[IndexArray]:
        parts = partition.continuous(
            values_of(self.dataset, self._partition_by),
            num_partitions=self._num_partitions,
            strictness=self._strictness,
            seed=self._seed,
            name=self._partition_by,
        )
        return mixed(parts, seed=self._seed, scheme="ContinuousPartitioner") if self._shuffle else parts
