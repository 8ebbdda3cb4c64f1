"""Some rows and columns of a table, as a data set of its own. Nothing is read before it is asked for.

The part of a client where the data is not a Hugging Face dataset. A view says its columns, selects and splits under the
names that Hugging Face datasets use, so partitioners, and most programs, need not care which of the two they have.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition import IndexArray
from umbel.datasets.tables import Array, ArrayTable, Pack, Table, as_dict, as_single, as_tuple
from umbel.errors import DataError
from umbel.rng import frozen_stream

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Rows", "View", "joined"]


class View:
    """Rows of a table, in an order of their own.

    `view[3]` is a row as the source would give it, `view["label"]` a column as an array, `view[2:5]` a smaller view.
    A torch `DataLoader` takes a view as it is.

    >>> from umbel.datasets.tables import ArrayTable
    >>> view = View(ArrayTable({"x": np.arange(10) * 1.5, "y": np.arange(10) % 2})).select([4, 5])
    >>> len(view), view["y"].tolist(), sorted(view[0]), view.numpy()["x"].tolist()
    (2, [0, 1], ['x', 'y'], [6.0, 7.5])
    """

    def __init__(
        self,
        table: Table,
        rows: IndexArray | None = None,
        names: tuple[str, ...] | None = None,
        *,
        fingerprint: str | None = None,
    ) -> None:
        self._table = table
        self._rows = rows
        self._names = table.names if names is None else names
        self.fingerprint = fingerprint  # changes whenever the content does; None where that would cost more than it gives

    @property
    def column_names(self) -> list[str]:
        """The columns, in order."""
        return list(self._names)

    def __len__(self) -> int:
        return len(self._table) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return f"View({len(self)} rows, columns {', '.join(map(repr, self._names))})"

    def __iter__(self) -> Iterator[object]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, key: object) -> object:
        """A row (int), a column as an array (str), or a view (slice, or rows by number).

        Raises IndexError beyond the last row, as a list does, and DataError for a column that is not there.
        """
        match key:
            case str():
                return self.column(key)
            case slice():
                return self.select(range(*key.indices(len(self))))
            case np.ndarray() | list() | range():
                return self.select(key)
            case _:
                return self._row(operator.index(key))  # type: ignore[arg-type]  # says by itself what it cannot use

    def _row(self, number: int) -> object:
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        number %= len(self)
        values = self._table.row(number if self._rows is None else int(self._rows[number]))
        return self._pack({name: values[name] for name in self._names})

    def column(self, name: str) -> Array:
        """One column of these rows as an array, with rows along axis 0; read-only where it is the source's own.

        Raises DataError where there is none.
        """
        if name not in self._names:
            raise DataError(f"There is no column {name!r} here. Columns: {', '.join(map(repr, self._names))}.")
        return self._table.gather(name, self._rows)

    def select(self, indices: Iterable[int] | IndexArray) -> View:
        """These rows of the view, in this order; no row is read. Raises DataError where there is no such row."""
        wanted = np.asarray(indices if isinstance(indices, (Sequence, np.ndarray)) else list(indices))
        if wanted.size and (wanted.dtype.kind not in "iu" or wanted.ndim != 1):
            raise DataError(f"Rows are selected by a list of whole numbers, not by {wanted.dtype} of shape {wanted.shape}.")
        chosen = wanted.astype(np.int64, copy=False)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise DataError(
                f"Rows {chosen.min()} to {chosen.max()} were asked of a data set of {len(self)}: "
                f"give numbers from 0 to {len(self) - 1}."
            )
        return View(self._table, chosen if self._rows is None else self._rows[chosen], self._names)

    def select_columns(self, column_names: str | Sequence[str]) -> View:
        """The same rows with these columns only. Raises DataError for one that is not there."""
        wanted = (column_names,) if isinstance(column_names, str) else tuple(column_names)
        for name in wanted:
            if name not in self._names:
                raise DataError(f"There is no column {name!r} here. Columns: {', '.join(map(repr, self._names))}.")
        return View(self._table, self._rows, wanted)

    def remove_columns(self, column_names: str | Sequence[str]) -> View:
        """The same rows without these columns. Raises DataError for one that is not there."""
        unwanted = self.select_columns(column_names)._names
        return self.select_columns([name for name in self._names if name not in unwanted])

    def numpy(self) -> object:
        """All rows as arrays, in the form of a row: a dict of arrays, a tuple of arrays, or one array."""
        return self._pack({name: self.column(name) for name in self._names})

    def torch(self) -> object:
        """All rows as torch tensors, in the form of a row. Raises DataError where torch is missing, or for text."""
        try:
            import torch
        except ImportError as error:
            raise DataError("view.torch() needs PyTorch, which is not installed. Run: pip install torch") from error
        tensors: dict[str, object] = {}
        for name in self._names:
            column = self.column(name)
            if column.dtype.kind not in "biufc":
                raise DataError(
                    f"Column {name!r} is {column.dtype}, and a tensor holds numbers. "
                    f"Leave it out: view.remove_columns({name!r}).torch()."
                )
            # A copy, since torch wants to write where a file is mapped; in this machine's byte order.
            tensors[name] = torch.from_numpy(column.astype(column.dtype.newbyteorder("="), copy=True))
        return self._pack(tensors)

    def train_test_split(self, test_size: float | int = 0.25, *, shuffle: bool = True, seed: int = 42) -> dict[str, View]:
        """Two views, "train" and "test", that share no row.

        `test_size` is a share of the rows between 0 and 1, or a number of rows. The same seed gives the same views on
        every machine. Raises DataError where one of the two would be empty, and where the seed is no whole number.
        """
        from umbel.datasets.partitioners.arguments import seed_of  # which imports this file

        share = isinstance(test_size, float) and 0 < test_size < 1
        count = int(np.ceil(test_size * len(self))) if share else test_size
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 < count < len(self):
            raise DataError(
                f"test_size is {test_size!r}, of {len(self)} rows: give a share between 0 and 1, or a number of rows "
                f"from 1 to {len(self) - 1}, so that neither part is empty."
            )
        order: npt.NDArray[np.int64] = np.arange(len(self), dtype=np.int64)
        if shuffle:
            order = frozen_stream(seed_of(seed), "datasets", "train_test_split").permutation(len(self)).astype(np.int64)
        cut = len(self) - int(count)
        return {"train": self.select(order[:cut]), "test": self.select(order[cut:])}

    @property
    def _pack(self) -> Pack:
        """How values by column name become a row of this view."""
        if self._names == self._table.names or self._table.pack is as_dict:
            return self._table.pack
        # Some columns of a tuple: still a tuple, and the value itself where one is left.
        return as_single if len(self._names) == 1 else as_tuple


def joined(views: Sequence[View]) -> View:
    """The rows of all, one view after the other, in the form that those of the first one have.

    Raises DataError where they have different columns.

    >>> from umbel.datasets.tables import ArrayTable
    >>> view = View(ArrayTable({"x": np.arange(2), "y": np.arange(2)}, as_tuple))
    >>> joined([view, view])[3]
    (np.int64(1), np.int64(1))
    """
    names = views[0].column_names
    if any(view.column_names != names for view in views):
        raise DataError(
            f"Splits of different columns cannot be merged: {', '.join(str(view.column_names) for view in views)}. "
            "Select the same columns first."
        )
    return View(ArrayTable({name: np.concatenate([view.column(name) for view in views]) for name in names}, views[0]._pack))


Rows: TypeAlias = "Dataset | View"
