"""Partitioners made of partitioners: drift over rounds, regions of clients, splits within a client, shifted features.

Each takes partitioners that have no dataset yet, and hands them its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from umbel.datasets.partition.composed import divided, drifted, nested
from umbel.datasets.partition.draws import normal
from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import between, count, seed_of, whole
from umbel.datasets.partitioners.base import CountedPartitioner, Partitioner, RowPartitioner, checked_id
from umbel.datasets.partitioners.by_size import IidPartitioner
from umbel.errors import DataError
from umbel.rng import frozen_stream

if TYPE_CHECKING:
    from umbel.datasets.view import Rows

__all__ = [
    "DriftPartitioner",
    "FeatureNoise",
    "FeatureShiftPartitioner",
    "HierarchicalPartitioner",
    "LocalSplitPartitioner",
]


class DriftPartitioner(RowPartitioner):
    """Partitions that move from those of `before` to those of `after` in `num_rounds` rounds.

    By itself it is round 0; `at_round(3)` is another partitioner, of the same dataset. See `partition.drifted`.

    >>> before, after = IidPartitioner(2), IidPartitioner(2)
    >>> DriftPartitioner(before, after, num_rounds=10).at_round(5).round
    5
    """

    def __init__(self, before: RowPartitioner, after: RowPartitioner, num_rounds: int, seed: int = 42) -> None:
        self._before = _of_rows("before", before)
        self._after = _of_rows("after", after)
        self._num_rounds = count("num_rounds", num_rounds, of="how many rounds the drift takes")
        self._seed = seed_of(seed)
        self.round = 0

    def at_round(self, round: int) -> DriftPartitioner:
        """The partitions of one round; from `num_rounds` on, those of `after`."""
        before, after = (_for_another_like(self, one) for one in (self._before, self._after))
        there = DriftPartitioner(before, after, self._num_rounds, self._seed)
        there.round = count("round", round, least=0, of="how many rounds are over")
        if self.is_dataset_assigned():
            there.dataset = self.dataset
        return there

    @property
    def num_partitions(self) -> int:
        return len(self.indices)

    def assign(self) -> list[IndexArray]:
        ends = [_indices(one, self.dataset) for one in (self._before, self._after)]
        step = min(self.round, self._num_rounds)
        return drifted(ends[0], ends[1], step=step, num_steps=self._num_rounds, seed=self._seed)


class HierarchicalPartitioner(RowPartitioner):
    """Regions of clients: `regions` divides the data, and `clients(r)` makes the partitioner of region r's share.

    Partitions count through the regions: those of region 0 first. `clients` may be a number: so many IID clients each. As a
    function it is asked once per region: at once, where `regions` knows how many it makes, else when the data is there.
    Client-edge-cloud federations, as in Liu et al. (2020), arXiv:1905.06641.

    >>> from umbel.datasets.view import View
    >>> from umbel.datasets.tables import ArrayTable
    >>> tree = HierarchicalPartitioner(IidPartitioner(2), lambda region: IidPartitioner(region + 1))
    >>> tree.dataset = View(ArrayTable({"x": np.arange(8)}))
    >>> [tree.load_partition(number)["x"].tolist() for number in range(3)], tree.region_of(2)
    ([[0, 1, 2, 3], [4, 5], [6, 7]], 1)
    """

    def __init__(self, regions: RowPartitioner, clients: int | Callable[[int], RowPartitioner]) -> None:
        self._regions = _of_rows("regions", regions)
        if not callable(clients):
            count(
                "clients", clients, of="how many clients a region has; or a function from a region's number to a partitioner"
            )
        # As partitioners they have settings by which their rows are found again; a function has none.
        known = callable(clients) and isinstance(regions, CountedPartitioner)
        self._clients = [_clients_of(region, clients) for region in range(regions.num_partitions)] if known else clients

    @cached_property
    def _tree(self) -> list[list[IndexArray]]:
        tree = []
        for region, rows in enumerate(_indices(self._regions, self.dataset)):
            inner = self._clients[region] if isinstance(self._clients, list) else _clients_of(region, self._clients)
            tree.append(nested(rows, _indices(inner, self.dataset.select(rows))))
        return tree

    @property
    def num_partitions(self) -> int:
        return len(self.indices)

    @property
    def num_regions(self) -> int:
        """How many regions there are."""
        return len(self._tree)

    def region_of(self, partition_id: int) -> int:
        """The region that a partition belongs to. Raises DataError where there is no such partition."""
        number = checked_id(partition_id, num_partitions=self.num_partitions)
        return int(np.searchsorted(np.cumsum([len(clients) for clients in self._tree]), number, side="right"))

    def load_region(self, region: int) -> Rows:
        """All rows of one region. Raises DataError where there is no such region."""
        number = whole(region)
        if number is None or not 0 <= number < self.num_regions:
            raise DataError(f"region is {region!r}, and must be a number from 0 to {self.num_regions - 1}.")
        return self._regions.load_partition(number)

    def assign(self) -> list[IndexArray]:
        return [rows for clients in self._tree for rows in clients]


class LocalSplitPartitioner(RowPartitioner):
    """The rows of each client at random into splits of its own; by itself it is the first one, `of(name)` another.

    `splits` names the splits and their shares, which add up to 1 at most. A client with few rows may have none of a split.

    >>> parts = LocalSplitPartitioner(IidPartitioner(10), {"train": 0.8, "validation": 0.1, "test": 0.1})
    >>> parts.split, parts.of("test").split
    ('train', 'test')
    """

    def __init__(self, clients: RowPartitioner, splits: Mapping[str, float], seed: int = 42) -> None:
        self._partitioner = _of_rows("clients", clients)
        if not isinstance(splits, Mapping) or not splits:
            raise DataError(
                f"splits is {splits!r}, and must name each split and its share, such as {{'train': 0.8, 'test': 0.2}}."
            )
        self._splits = {
            str(name): between(f"splits[{name!r}]", share, 0.0, 1.0, of="a share of a client's rows")
            for name, share in splits.items()
        }
        if sum(self._splits.values()) > 1 + 1e-9:
            raise DataError(
                f"splits add up to {sum(self._splits.values()):g} of a client's rows, and must add up to 1 at most: "
                "no row is in two of them. Lower some."
            )
        self._seed = seed_of(seed)
        self.split = next(iter(self._splits))

    def of(self, split: str) -> LocalSplitPartitioner:
        """The same clients with another of their splits. Raises DataError where there is none of that name."""
        if split not in self._splits:
            raise DataError(f"There is no split {split!r} of a client here. Splits: {', '.join(map(repr, self._splits))}.")
        there = LocalSplitPartitioner(_for_another_like(self, self._partitioner), self._splits, self._seed)
        there.split = split
        if self.is_dataset_assigned():
            there.dataset = self.dataset
        return there

    @property
    def num_partitions(self) -> int:
        return len(self.indices)

    def assign(self) -> list[IndexArray]:
        place = list(self._splits).index(self.split)
        shares = list(self._splits.values())
        return [
            divided(rows, shares, seed=self._seed, partition_id=number)[place]
            for number, rows in enumerate(_indices(self._partitioner, self.dataset))
        ]


class FeatureShiftPartitioner(Partitioner):
    """The partitions of `clients`, each changed by `shift(rows, partition_id)`: another camera, another accent.

    `shift` may be any function from a dataset and a partition's number to a dataset, such as `FeatureNoise`; it runs each
    time that a partition is loaded.
    """

    def __init__(self, clients: Partitioner, shift: Callable[[Any, int], Any]) -> None:
        if not isinstance(clients, Partitioner):
            raise DataError(f"clients is {clients!r} ({type(clients).__name__}), and must be a partitioner.")
        if not callable(shift):
            raise DataError(f"shift is {shift!r}, and must be a function of a partition and its number.")
        self._partitioner = clients
        self._shift = shift

    @property
    def num_partitions(self) -> int:
        return self._with_data.num_partitions

    @property
    def _with_data(self) -> Partitioner:
        if not self._partitioner.is_dataset_assigned():
            self._partitioner.dataset = self.dataset
        return self._partitioner

    def load_partition(self, partition_id: int) -> Rows:
        """One partition as its client sees it. Raises DataError where there is none of that number."""
        part = self._with_data.load_partition(partition_id)
        shifted: Rows = self._shift(part, partition_id)
        return shifted


class FeatureNoise:
    """A shift for Hugging Face datasets: partition i gets Gaussian noise of standard deviation sigma·(i+1)/num_partitions.

    `column` holds numbers, alone or in (nested) lists; its values become float32. Li et al. (2022), "Federated Learning on
    Non-IID Data Silos", arXiv:2102.02079, section 4.2 (the variance there, the deviation here).
    """

    def __init__(self, column: str, num_partitions: int, sigma: float = 0.1, seed: int = 42) -> None:
        self._column = column
        self._num_partitions = count("num_partitions", num_partitions, of="how many clients share the data")
        self._sigma = between("sigma", sigma, 0.0, float("inf"), of="the standard deviation for the last partition")
        self._seed = seed_of(seed)

    def __call__(self, rows: Any, partition_id: int) -> Any:
        """`rows` with noise in the column. Raises DataError where that column is not there, or rows cannot be mapped."""
        if not hasattr(rows, "map") or self._column not in rows.column_names:
            raise DataError(
                f"FeatureNoise needs a Hugging Face dataset with the column {self._column!r}, and got a "
                f"{type(rows).__name__} with {', '.join(map(repr, rows.column_names))}. "
                "Name one of them, or write a shift of your own: a function of a partition and its number."
            )
        deviation = self._sigma * (partition_id + 1) / self._num_partitions

        def noisy(batch: dict[str, Any], places: list[int]) -> dict[str, Any]:
            clean = np.asarray(batch[self._column], dtype=np.float64)
            rng = frozen_stream(self._seed, "datasets", "feature-noise", partition_id, places[0])
            return {self._column: (clean + deviation * normal(rng, clean.size).reshape(clean.shape)).astype(np.float32)}

        return rows.map(noisy, batched=True, batch_size=1000, with_indices=True, load_from_cache_file=False)


def _clients_of(region: int, clients: int | Callable[[int], RowPartitioner]) -> RowPartitioner:
    return _of_rows(f"clients({region})", clients(region)) if callable(clients) else IidPartitioner(clients)


def _of_rows(name: str, partitioner: object) -> RowPartitioner:
    if not isinstance(partitioner, RowPartitioner):
        raise DataError(
            f"{name} is {partitioner!r} ({type(partitioner).__name__}), and must be a partitioner of rows, "
            "such as IidPartitioner(10)."
        )
    return partitioner


def _for_another_like(whole: Partitioner, part: RowPartitioner) -> RowPartitioner:
    """`part` of `whole`: itself where the data is known, so that it is divided once; else a copy, for any other data."""
    return part if whole.is_dataset_assigned() or part.is_dataset_assigned() else copy.deepcopy(part)


def _indices(partitioner: RowPartitioner, dataset: Rows) -> list[IndexArray]:
    """The partitions of `dataset`. Hands it over, unless the partitioner has it already."""
    if not partitioner.is_dataset_assigned():
        partitioner.dataset = dataset
    if partitioner.dataset is not dataset:
        raise DataError(
            f"This {type(partitioner).__name__} already divides another dataset, of {len(partitioner.dataset)} rows. "
            "Make one partitioner per dataset, and per region."
        )
    return partitioner.indices
