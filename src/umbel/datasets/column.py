"""One column of a data set as an array or as labels, whichever kind of data set it is.

Knows no partitions. Imports pyarrow only where a Hugging Face dataset has already brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.labels import Labels, encoded, missing
from umbel.datasets.view import View
from umbel.errors import DataError

if TYPE_CHECKING:
    from umbel.datasets.view import Rows

__all__ = ["labels_of", "values_of"]


def labels_of(dataset: Rows, name: str) -> Labels:
    """The labels of column `name`. Raises DataError where there is no such column, or a row has no label."""
    column, order = _column(dataset, name)
    if isinstance(column, np.ndarray):
        return encoded(column if order is None else column[order], name)
    codes, values = _encoded_text(column)
    if order is not None:  # some rows only, and perhaps not all values
        present, codes = np.unique(codes[order], return_inverse=True)
        values = [values[one] for one in present]
    return Labels(codes.astype(np.int64, copy=False), values, name)


def values_of(dataset: Rows, name: str) -> npt.NDArray[np.generic]:
    """Column `name` as it is. Raises DataError where there is no such column, or a row has no value."""
    column, order = _column(dataset, name)
    values = column if isinstance(column, np.ndarray) else np.array(column.to_pylist())
    return values if order is None else values[order]


def _column(dataset: Rows, name: str) -> tuple[Any, npt.NDArray[np.integer] | None]:
    """A column, and the order in which its rows are to be taken (None: as they are).

    An array; of text in a Hugging Face dataset, a pyarrow column.
    """
    if name not in dataset.column_names:
        raise DataError(f"There is no column {name!r} to divide by. Columns: {', '.join(map(repr, dataset.column_names))}.")
    if isinstance(dataset, View):
        return np.asarray(dataset.column(name)), None
    import pyarrow as pa

    # Reading rows in a dataset's own order takes 3 s for 1 M of them; reading all and putting them in order, 0.02 s.
    column, order = dataset.data.column(name), None
    if dataset._indices is not None:
        order = dataset._indices.column(0).to_numpy()
        if column.null_count or len(order) < len(column) / 8:
            column, order = column.take(pa.array(order)), None
    if column.null_count:
        raise missing(name, column.is_null().to_numpy().argmax(), column.null_count)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column, order
    if pa.types.is_nested(column.type):
        raise DataError(
            f"Column {name!r} holds {column.type}, and must have one value per row. Choose a column of numbers or text."
        )
    return column.to_numpy(), order


def _encoded_text(column: Any) -> tuple[npt.NDArray[np.int64], list[object]]:
    """Codes and ascending values, without sorting every row: 1 M names of 1,000 speakers in 0.03 s instead of 0.6 s."""
    table = column.combine_chunks().dictionary_encode()
    values = table.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    return place[table.indices.to_numpy()], [values[one] for one in order]
