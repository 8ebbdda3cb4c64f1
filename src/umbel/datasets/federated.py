"""One data set, divided among clients that never talk to each other.

Each client process builds the same `FederatedDataset` and asks for its own part: order and partition follow from the
data set, its seed and the partitioner alone, so the parts are disjoint and cover the split. Knows no formats and no
network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from umbel.datasets import sources
from umbel.datasets.partition import shuffled
from umbel.datasets.partitioners import IidPartitioner, Partitioner, whole
from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["FederatedDataset"]


class FederatedDataset:
    """The splits of `dataset`, some of them divided into partitions.

    - `dataset`: a name on the Hugging Face hub, a `datasets.Dataset` or a `datasets.DatasetDict`. "mnist" also works
      without the hub (see `umbel.datasets.fetch`).
    - `subset`: the hub's name for a configuration.
    - `preprocessor`: any function from `DatasetDict` to `DatasetDict`; it runs after shuffling, before dividing.
    - `partitioners`: for each split to divide, a `Partitioner`, or a number of IID partitions.
    - `shuffle`, `seed`: every split is shuffled first. All clients must use the same seed.
    - `load_dataset_kwargs`: for `datasets.load_dataset`.

    Nothing is loaded before the first question. What comes back are Hugging Face datasets whose columns, under numpy
    format, are arrays (`umbel.datasets.array_dataset`).

    >>> from datasets import Dataset
    >>> fds = FederatedDataset(dataset=Dataset.from_dict({"x": range(6)}), partitioners={"train": 3})
    >>> [sorted(fds.load_partition(part).with_format("numpy")["x"].tolist()) for part in range(3)]
    [[0, 4], [3, 5], [1, 2]]
    """

    def __init__(
        self,
        *,
        dataset: str | Dataset | DatasetDict,
        subset: str | None = None,
        preprocessor: Callable[[DatasetDict], DatasetDict] | None = None,
        partitioners: Mapping[str, int | Partitioner],
        shuffle: bool = True,
        seed: int = 42,
        **load_dataset_kwargs: object,
    ) -> None:
        if whole(seed) is None:
            raise DataError(f"seed is {seed!r}, and must be a whole number: clients whose order differs would share rows.")
        if "split" in load_dataset_kwargs:
            raise DataError(
                f"split={load_dataset_kwargs['split']!r} is not for a federation, which loads all splits. "
                "Name the one to divide in partitioners=, such as {'train': 3}."
            )
        self._dataset = dataset
        self._subset = subset
        self._preprocessor = preprocessor
        self._shuffle = shuffle
        self._seed = seed
        self._options = load_dataset_kwargs
        self._partitioners = _parsed(partitioners)

    @property
    def partitioners(self) -> dict[str, Partitioner]:
        """The partitioner of each divided split, with its dataset. Loads the data."""
        return dict(self._partitioners) if self._splits else {}

    def load_partition(
        self, partition_id: int | None = None, split: str | None = None, *, node_id: int | None = None
    ) -> Dataset:
        """The rows of one client.

        `node_id` is the name that older programs use for `partition_id`. `split` may be left out where one split is
        divided. Raises DataError for a partition or split that does not exist.
        """
        chosen = node_id if partition_id is None else partition_id
        if chosen is None or (partition_id is not None and node_id is not None):
            raise DataError(
                f"load_partition got partition_id={partition_id!r} and node_id={node_id!r}, two names of one thing: "
                "give exactly one."
            )
        divided = self.partitioners
        if split is None and len(divided) == 1:
            (split,) = divided
        if split is None:
            raise DataError(f"load_partition needs split=, one of {_listed(divided)}: more than one split is divided.")
        if split not in divided:
            _known(split, self._splits)  # that there is no such split at all is the better thing to say
            raise DataError(
                f"Split {split!r} is not divided; partitioners= names {_listed(divided)}. Add it there, "
                "or take all of it with load_split."
            )
        return divided[split].load_partition(chosen)

    def load_split(self, split: str) -> Dataset:
        """All rows of a split, shuffled and preprocessed. Raises DataError where there is no such split."""
        return self._splits[_known(split, self._splits)]

    @cached_property
    def _splits(self) -> DatasetDict:
        splits = sources.load(self._dataset, self._subset, self._options)
        from umbel.datasets.array_dataset import as_arrays

        make = type(splits)
        splits = make({str(name): as_arrays(rows) for name, rows in splits.items()})
        if self._shuffle:
            splits = make(
                {name: rows.select(shuffled(len(rows), seed=self._seed, split=name)) for name, rows in splits.items()}
            )
        if self._preprocessor is not None:
            answer = self._preprocessor(splits)
            if not isinstance(answer, make):
                raise DataError(f"preprocessor returned a {type(answer).__name__}, and must return a datasets.DatasetDict.")
            splits = make({name: as_arrays(rows) for name, rows in answer.items()})
        for split in self._partitioners:
            _known(split, splits)
        for split, partitioner in self._partitioners.items():
            partitioner.dataset = splits[split]
        return splits


def _parsed(partitioners: Mapping[str, int | Partitioner]) -> dict[str, Partitioner]:
    if not isinstance(partitioners, Mapping):
        raise DataError(f"partitioners is {partitioners!r}, and must name the splits to divide, such as {{'train': 3}}.")
    return {split: how if isinstance(how, Partitioner) else IidPartitioner(how) for split, how in partitioners.items()}


def _known(split: str, splits: Mapping[str, object]) -> str:
    if split not in splits:
        raise DataError(f"There is no split {split!r} here. Splits: {_listed(splits)}.")
    return split


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
