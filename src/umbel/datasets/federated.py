"""One data set, divided among clients that never talk to each other.

Each client process builds the same `FederatedDataset` and asks for its own part: order and partition follow from the
data set, its seed and the partitioner alone, so the parts are disjoint and cover the split. Which rows a part has is
worked out once on a machine and then kept (`index_cache`). Knows no formats and no network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from umbel.datasets import index_cache, sources
from umbel.datasets.partition import IndexArray, shuffled
from umbel.datasets.partitioners import IidPartitioner, Partitioner, RowPartitioner, checked_id, whole
from umbel.datasets.partitioners.arguments import flag
from umbel.datasets.partitioners.natural import number_together
from umbel.datasets.preprocess import Merger
from umbel.datasets.view import View
from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["FederatedDataset"]

# Held while data are loaded and divided: from Python 3.12 on, cached properties have no lock of their own. One for all,
# since what has a lock cannot be pickled.
_LOADING = threading.RLock()


class FederatedDataset:
    """The splits of `dataset`, some of them divided into partitions.

    - `dataset`: a name on the Hugging Face hub, or one of Umbel's own (`umbel.datasets.sources.named`); a folder or a file
      (.parquet, .csv, .json, .jsonl, .npz, .npy); a `datasets.Dataset` or `datasets.DatasetDict`; numpy arrays, alone, in a
      dict of columns, or in a tuple of columns, where lists and tensors will do; a pandas or polars frame; any object with
      `__len__` and `__getitem__`, such as a torch dataset; or a dict of splits, each in memory. What has no splits is
      "train". "mnist" and "fashion_mnist" also work without the hub (see `umbel.datasets.fetch`).
    - `subset`: the hub's name for a configuration.
    - `preprocessor`: any function of the splits, a `DatasetDict` (or a dict of views, where the source is not Hugging
      Face's), that returns splits of the same kind; it runs after shuffling, before dividing. A dict is a `Merger`'s.
    - `partitioners`: for each split to divide, a `Partitioner`, or a number of IID partitions. Each divides its split by
      itself: that partition 3 of two splits is the same client's is so with natural ids (`NaturalIdPartitioner`), which are
      numbered together. With others, divide one split and each client's share of it (`LocalSplitPartitioner`).
    - `shuffle`, `seed`: every split is shuffled first. All clients must use the same seed.
    - `load_dataset_kwargs`: for `datasets.load_dataset`.

    Nothing is loaded before the first question. Where the source is Hugging Face's, so are its parts: datasets whose
    columns, under numpy format, are arrays (`umbel.datasets.array_dataset`). Of any other source they are views
    (`umbel.datasets.view`).

    >>> import numpy as np
    >>> fds = FederatedDataset(dataset={"x": np.arange(6)}, partitioners={"train": 3})
    >>> [sorted(fds.load_partition(part)["x"].tolist()) for part in range(3)]
    [[0, 4], [3, 5], [1, 2]]
    """

    def __init__(
        self,
        *,
        dataset: object,
        subset: str | None = None,
        preprocessor: Callable[[Any], Any] | Mapping[str, Sequence[str]] | None = None,
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
        self._preprocessor = Merger(preprocessor) if isinstance(preprocessor, Mapping) else preprocessor
        if self._preprocessor is not None and not callable(self._preprocessor):
            raise DataError(
                f"preprocessor is {preprocessor!r}, and must be a function from splits to splits, or name each new split "
                "and those it is made of, such as {'all': ('train', 'test')}."
            )
        self._shuffle = flag("shuffle", shuffle)
        self._seed = seed
        self._options = load_dataset_kwargs
        self._partitioners = _parsed(partitioners)
        self._handed_over = False
        self._together: list[list[str]] = []  # splits whose partitions are numbered together
        self._settings = {split: index_cache.settings(partitioner) for split, partitioner in self._partitioners.items()}

    @property
    def partitioners(self) -> dict[str, Partitioner]:
        """The partitioner of each divided split, with its dataset. Loads the data."""
        with _LOADING:
            self._hand_over()
            return dict(self._partitioners)

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
        if split is None and len(self._partitioners) == 1:
            (split,) = self._partitioners
        if not self._partitioners:
            raise DataError(
                "No split is divided: partitioners= is empty. Name one there, such as {'train': 3}, or take all of a split "
                "with load_split."
            )
        if split is None:
            raise DataError(
                f"load_partition needs split=, one of {_listed(self._partitioners)}: more than one split is divided."
            )
        with _LOADING:
            self._hand_over()
            if split not in self._partitioners:
                _known(split, self._base)  # that there is no such split at all is the better thing to say
                raise DataError(
                    f"Split {split!r} is not divided; partitioners= names {_listed(self._partitioners)}. Add it there, "
                    "or take all of it with load_split."
                )
            key = self._key(split)
            if key is None:
                return self._partitioners[split].load_partition(chosen)
            rows = index_cache.read(key, chosen)
            if rows is None:
                rows = self._computed(split, key, chosen)
            return self._base[split].select(rows)

    def load_split(self, split: str) -> Dataset:
        """All rows of a split, shuffled and preprocessed. Raises DataError where there is no such split."""
        with _LOADING:
            self._hand_over()
            return self._processed[_known(split, self._processed)]

    @cached_property
    def _source(self) -> DatasetDict | dict[str, View]:
        """The splits as they came."""
        return _as_arrays(sources.load(self._dataset, self._subset, self._options))

    @cached_property
    def _processed(self) -> DatasetDict | dict[str, View]:
        """The splits, shuffled and preprocessed."""
        splits = self._source
        make = type(splits)
        if self._shuffle:
            splits = make({name: rows.select(self._order(name, len(rows))) for name, rows in splits.items()})
        if self._preprocessor is None:
            return splits
        answer = self._preprocessor(splits)
        if not isinstance(answer, make) or not all(isinstance(rows, View) for rows in answer.values() if make is dict):
            raise DataError(
                f"preprocessor returned a {type(answer).__name__}, and must return "
                f"{'a dict of views' if make is dict else 'a datasets.DatasetDict'}."
            )
        return _as_arrays(answer)

    def _hand_over(self) -> None:
        """Let each partitioner have its split, once. Nothing is shuffled before it asks: kept rows do not need that."""
        if self._handed_over:
            return
        for split in self._partitioners:
            _known(split, self._base)
        for split, partitioner in self._partitioners.items():
            partitioner.promise(partial(self._whole, split))
        in_order = [split for split in self._base if split in self._partitioners]  # whatever order partitioners= has
        self._together = number_together(
            {split: (self._partitioners[split], partial(self._whole, split)) for split in in_order}
        )
        self._handed_over = True

    def _whole(self, split: str) -> Dataset | View:
        with _LOADING:
            return self._processed[split]

    @property
    def _base(self) -> DatasetDict | dict[str, View]:
        """The rows that kept indices are of: as they came, so that nothing is shuffled; or as preprocessed."""
        return self._source if self._preprocessor is None else self._processed

    def _key(self, split: str) -> str | None:
        """Where the rows of this split's partitions are kept; None where they are not."""
        partitioner, settings = self._partitioners[split], self._settings[split]
        splits = [split, *(other for group in self._together if split in group for other in group)]
        bases = [self._base[each] for each in splits]
        fingerprints = [rows.fingerprint if isinstance(rows, View) else rows._fingerprint for rows in bases]
        by_rows = type(partitioner).load_partition is RowPartitioner.load_partition
        if not by_rows or settings is None or None in fingerprints:
            return None
        order = f"{self._seed} {' '.join(splits)}" if self._shuffle and self._preprocessor is None else ""
        fingerprint = " ".join(map(str, fingerprints))
        return index_cache.key_of(fingerprint=fingerprint, size=len(bases[0]), order=order, partitioner=settings)

    def _computed(self, split: str, key: str, partition_id: int) -> IndexArray:
        """The rows of one partition in `_base`, worked out; those of all are kept."""
        partitioner = self._partitioners[split]
        assert isinstance(partitioner, RowPartitioner)
        parts = partitioner.indices
        if self._shuffle and self._preprocessor is None:
            order = self._order(split, len(self._base[split]))
            parts = [order[part] for part in parts]
        index_cache.write(key, parts)
        return parts[checked_id(partition_id, num_partitions=len(parts))]

    def _order(self, split: str, size: int) -> IndexArray:
        return shuffled(size, seed=self._seed, split=split)


def _as_arrays(splits: DatasetDict | dict[str, View]) -> DatasetDict | dict[str, View]:
    if type(splits) is dict:
        return splits
    from umbel.datasets.array_dataset import as_arrays

    return type(splits)({str(name): as_arrays(rows) for name, rows in splits.items()})


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
