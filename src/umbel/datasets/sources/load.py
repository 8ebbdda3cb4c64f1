"""Which reader reads what a user gave as `dataset`. Each kind of source has a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from umbel.datasets.sources import arrays, frames, hub_names, named
from umbel.datasets.tables import Array, ItemTable, names_of_tuple
from umbel.datasets.view import View
from umbel.errors import DataError

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["load"]

_ROWS = (
    "numpy arrays, alone, in a dict, or in a tuple of columns, where lists and tensors will do; a pandas or polars frame; "
    "or any object with __len__ and __getitem__, such as a torch dataset"
)
_ACCEPTED = (
    "Give a name on the Hugging Face hub or one of Umbel's own; a folder, or a file (.npz, .npy, .parquet, .csv, .json, "
    f".jsonl); a datasets.Dataset or datasets.DatasetDict with at least one split; {_ROWS}"
)
_ACCEPTED_SPLIT = (
    f"Give each split as {_ROWS}; or all as datasets.Dataset. Files by split are for dataset='csv', data_files={{…}}"
)


def load(dataset: object, subset: str | None, options: Mapping[str, object]) -> DatasetDict | dict[str, View]:
    """All splits of `dataset`: a `DatasetDict` where the source is Hugging Face's, else views by split.

    `subset` and `options` go to `datasets.load_dataset`. Raises DataError where there is no such data set, no way to it,
    nothing in it, or no package to read it.
    """
    name = fspath(dataset) if isinstance(dataset, PathLike) else dataset
    if isinstance(name, str) and not name:
        raise DataError(f"dataset is '' (str). {_ACCEPTED}.")
    if isinstance(name, str) and not _is_ours(name):
        return hub_names.load(name, subset, options)
    for setting, value in {"subset": subset, **options}.items():
        if value is not None:
            raise DataError(
                f"{setting}={value!r} is for data that Hugging Face's load_dataset reads, and this dataset is "
                f"{name!r:.60}: leave it out."
            )
    splits = named.load(name) if isinstance(name, str) and name in named.NAMES else _splits(name)
    for split, rows in splits.items():
        if len(rows) == 0:
            raise DataError(f"Split {split!r} of the dataset has no rows: there is nothing to divide.")
    return splits


def _is_ours(name: str) -> bool:
    return (name in named.NAMES and not Path(name).exists()) or Path(name).suffix in (".npz", ".npy")


def _splits(dataset: object) -> DatasetDict | dict[str, View]:
    if (splits := hub_names.in_memory(dataset)) is not None:
        return splits
    match dataset:
        case str():
            return arrays.from_file(Path(dataset))
        case Mapping() if dataset and any(not isinstance(value, (np.ndarray, list)) for value in dataset.values()):
            return {str(split): _one(value, where=f"split {split!r} of ") for split, value in dataset.items()}
        case _:
            return {"train": _one(dataset)}


def _one(rows: object, *, where: str = "") -> View:
    """The rows of one split. `where` is for the error, and says which split where there are several."""
    accepted = _ACCEPTED_SPLIT if where else _ACCEPTED
    if (view := frames.view_of(rows)) is not None:
        return view
    match rows:
        case View():
            return rows
        case np.ndarray():
            return arrays.view_of(rows)
        case tuple() if rows:
            return arrays.view_of(tuple(map(_array, names_of_tuple(len(rows)), rows)))
        case Mapping() if rows:
            return arrays.view_of({str(name): _array(name, column) for name, column in rows.items()})
        case _ if (
            not isinstance(rows, (str, bytes, Mapping, type)) and hasattr(rows, "__getitem__") and hasattr(rows, "__len__")
        ):
            if len(rows) == 0:
                raise DataError(f"{where}dataset is {rows!r:.60} ({type(rows).__name__}), which has no rows. {accepted}.")
            return View(ItemTable(rows))
        case _:
            streams = hasattr(rows, "__iter__") and not hasattr(rows, "__len__")
            raise DataError(
                f"{where}dataset is {rows!r:.200} ({type(rows).__name__}). {accepted}."
                + (" What can only be read from front to end cannot be divided." if streams else "")
            )


def _array(name: object, column: object) -> Array:
    try:
        return np.asarray(column)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors of a device, or with a gradient
        raise DataError(
            f"Column {name!r} of the dataset, a {type(column).__name__}, cannot be made an array ({error}). "
            "Give an array with a row per example; rows of different shapes as a list of examples."
        ) from error
