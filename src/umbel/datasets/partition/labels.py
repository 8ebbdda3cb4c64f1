"""A column of labels as numbers: which classes there are, and which rows belong to each.

Knows no partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.rows import IndexArray, stable_order
from umbel.errors import DataError

__all__ = ["MAX_CLASSES", "Labels", "classes_of", "encoded", "without_value"]

MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Labels:
    """`codes`: for each row, the place of its label in `values`, which ascend. shape (rows,), int64.

    `name` is what to call the column in an error.
    """

    codes: IntArray
    values: Sequence[object]
    name: str = "labels"

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def sizes(self) -> IntArray:
        """How many rows each class has. shape (classes,)."""
        return np.bincount(self.codes, minlength=len(self.values)).astype(np.int64, copy=False)

    @cached_property
    def rows(self) -> IndexArray:
        """All rows, class by class, ascending within a class. shape (rows,)."""
        return stable_order(self.codes)


def encoded(labels: npt.NDArray[np.generic] | Labels, name: str = "labels") -> Labels:
    """Labels as codes. `Labels` are returned as they are.

    Raises DataError where `labels` is not one-dimensional, has values that cannot be ordered, or has NaN.

    >>> labels = encoded(np.array(["dog", "cat", "dog"]))
    >>> labels.codes.tolist(), list(labels.values), labels.rows.tolist()
    ([1, 0, 1], ['cat', 'dog'], [1, 0, 2])
    """
    if isinstance(labels, Labels):
        return labels
    column = np.asarray(labels)
    if column.ndim != 1:
        raise DataError(
            f"Column {name!r} has shape {column.shape}, and must have one label per row. Choose a column of single values."
        )
    if nothing := without_value(column):
        raise missing(name, nothing[0], len(nothing))
    try:
        values, codes = np.unique(column, return_inverse=True)
    except (TypeError, ValueError) as error:  # objects: text beside numbers, lists, …
        raise DataError(
            f"The values of column {name!r} cannot be put in order ({error}). Choose a column of numbers or text."
        ) from error
    # tolist makes numbers of times that are finer than a microsecond.
    return Labels(codes.astype(np.int64, copy=False), list(values) if values.dtype.kind in "mM" else values.tolist(), name)


def without_value(column: npt.NDArray[np.generic]) -> list[int]:
    """The rows that have None, NaN or no time."""
    match column.dtype.kind:
        case "f" | "c":
            return np.flatnonzero(np.isnan(column)).tolist()
        case "m" | "M":
            return np.flatnonzero(np.isnat(column)).tolist()
        case "O":
            return [row for row, value in enumerate(column) if _is_nothing(value)]
        case _:
            return []


def _is_nothing(value: object) -> bool:
    """Whether this is None, a NaN or NaT of any library, or pandas.NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA: it may or may not be equal
        return True
    except ValueError:  # an array, which differs or not in each place
        return False


def missing(name: str, first: int, count: int) -> DataError:
    """What to say of a column with `count` rows that have no value."""
    return DataError(
        f"Column {name!r} has no value (None or NaN) in {count} rows, the first of them row {first}; every row needs one. "
        "Drop these rows with a preprocessor, or fill them."
    )


def classes_of(labels: npt.NDArray[np.generic] | Labels) -> Labels:
    """As `encoded`, for columns of classes.

    Raises DataError where there are more than MAX_CLASSES, and for measured numbers: fractions, more than 100 of them or
    such as seldom come twice.
    """
    found = encoded(labels)
    many = len(found.values) > 100 or 2 * len(found.values) > len(found)
    if many and any(isinstance(value, float) and not value.is_integer() for value in found.values):
        raise DataError(
            f"Column {found.name!r} has {len(found.values)} different values in {len(found)} rows, such as "
            f"{found.values[0]}: it is measured, and names no classes. Divide it with ContinuousPartitioner, or add a "
            "column of ranges with a preprocessor."
        )
    if len(found.values) > MAX_CLASSES:
        raise DataError(
            f"Column {found.name!r} has {len(found.values)} different values, and at most {MAX_CLASSES} are taken for "
            "classes. Choose the column of labels; divide an id column with NaturalIdPartitioner or "
            "GroupedNaturalIdPartitioner, and a measured one with ContinuousPartitioner."
        )
    return found
