"""A Hugging Face dataset whose columns, under numpy format, are arrays.

`datasets` 3 answers `ds["label"]` with an array; from 4.0 on the answer is a lazy `Column`, which has no `.astype` and
which array libraries cannot read. Tutorials are full of the former. A subclass gives it back for our partitions alone
and leaves `datasets` as it is for everybody else. It also maps functions of one image, and selects rows, faster.

Knows no partitions and no sources. Importing this file imports `datasets` (1 s): do so where it is needed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets.table import InMemoryTable

__all__ = ["ArrayDataset", "as_arrays"]


class ArrayDataset(datasets.Dataset):  # type: ignore[misc]  # datasets has no type hints that mypy reads
    """`datasets.Dataset`, but a column under numpy format is a numpy array. Views and copies of it are the same."""

    def __getitem__(self, key: object) -> object:
        """As in `datasets`, except that under numpy format a column name gives the whole column as an array."""
        found = super().__getitem__(key)
        if isinstance(key, str) and self.format["type"] == "numpy":
            return found[:]  # a Column (datasets ≥ 4) becomes an array; an array (datasets 3) stays one
        return found

    def map(self, function: Callable[..., object] | None = None, *args: object, **kwargs: object) -> ArrayDataset:
        """As in `datasets`; a function of image columns under numpy format runs in batches, to the same result."""
        map_as_is = functools.partial(super().map, function, *args, **kwargs)
        bound = inspect.signature(super().map).bind(function, *args, **kwargs)
        bound.apply_defaults()
        call = bound.arguments
        if function is None or not self._maps_images(call):
            return as_arrays(map_as_is())
        # A column's type is inferred per write: as many rows per batch as the row path has per write.
        rows = call["writer_batch_size"] or datasets.config.DEFAULT_MAX_BATCH_SIZE
        try:
            return as_arrays(super().map(**call | {"function": _RowByRow(function), "batched": True, "batch_size": rows}))
        except _NotColumns:
            return as_arrays(map_as_is())

    def select(self, indices: object, *args: object, **kwargs: object) -> ArrayDataset:
        """As in `datasets`; rows in an array of numpy's, as a partition is, are looked at in 0.1 ms instead of 5 ms."""
        if args or kwargs or not isinstance(indices, np.ndarray) or not _scattered(indices, len(self)):
            return as_arrays(super().select(indices, *args, **kwargs))
        view = as_arrays(self)
        view._info = copy.copy(self._info)
        rows = (indices if self._indices is None else self._indices.column(0).to_numpy()[indices]).astype(np.uint64)
        view._indices = InMemoryTable(pa.table({"indices": rows}))
        view._fingerprint = hashlib.blake2b(rows.data, key=self._fingerprint.encode()[:64], digest_size=8).hexdigest()
        return view

    def _maps_images(self, call: Mapping[str, Any]) -> bool:
        """Whether batches would give what rows give.

        Only images reach a function with the same values and dtype either way: `datasets` turns a batch of float64
        into float32 and of int8 into int64, where a single row keeps its type.
        """
        columns = call["input_columns"]
        columns = [columns] if isinstance(columns, str) else columns
        return (
            self.format["type"] == "numpy"
            and bool(columns)
            and all(isinstance(self.features.get(column), datasets.Image) for column in columns)
            and not inspect.iscoroutinefunction(call["function"])
            and not (call["batched"] or call["with_indices"] or call["with_rank"])
        )


def _scattered(rows: npt.NDArray[Any], size: int) -> bool:
    """Whether these are some of `size` rows, and not one run of them, which `datasets` slices."""
    return (
        rows.ndim == 1
        and rows.dtype.kind == "i"
        and len(rows) > 1
        and bool(rows.min() >= 0 and rows.max() < size)
        and bool(rows[-1] - rows[0] != len(rows) - 1 or (np.diff(rows) != 1).any())
    )


class _NotColumns(Exception):
    """A row function answered something other than a dict or None, such as an Arrow table."""


@dataclass(frozen=True)
class _RowByRow:
    """A function of one row as a function of a batch.

    Reading and writing row by row costs `datasets` more than the work itself: 16,000 digits take 2.9 s in batches and
    5.8 s in rows, of which decoding the images is 1.5 s (2 cores; medians; datasets 3.6, 4.8 and 5.2 differ little).
    """

    function: Callable[..., Any]

    def __call__(self, *columns: object, **kwargs: object) -> dict[str, list[object]] | None:
        answers: list[Any] = []
        for row in zip(*columns, strict=True):
            answers.append(self.function(*row, **kwargs))
            if answers[-1] is not None and not isinstance(answers[-1], Mapping):
                raise _NotColumns
        if not answers or answers[0] is None:
            return None
        return {name: [answer[name] for answer in answers] for name in answers[0]}


def as_arrays(dataset: datasets.Dataset) -> ArrayDataset:
    """The same rows, format and indices, with columns that are arrays. The argument is not changed."""
    view = ArrayDataset.__new__(ArrayDataset)
    view.__dict__.update(dataset.__dict__)
    return view


def _kept(method: Callable[..., object]) -> Callable[..., object]:
    """`method` of `datasets.Dataset`, whose answers are ArrayDatasets."""

    @functools.wraps(method)
    def kept(self: ArrayDataset, *args: object, **kwargs: object) -> object:
        made = method(self, *args, **kwargs)
        match made:
            case datasets.DatasetDict():
                return datasets.DatasetDict({name: as_arrays(part) for name, part in made.items()})
            case datasets.Dataset():
                return as_arrays(made)
            case _:
                return made

    return kept


# The methods that build a new dataset. The others (set_format, with_format, rename_column, ...) copy the one they have.
for _name in (
    "add_column", "add_item", "cast", "class_encode_column", "filter", "flatten_indices", "repeat",
    "shard", "shuffle", "skip", "sort", "take", "train_test_split",
):  # fmt: skip
    if hasattr(datasets.Dataset, _name):
        setattr(ArrayDataset, _name, _kept(getattr(datasets.Dataset, _name)))
