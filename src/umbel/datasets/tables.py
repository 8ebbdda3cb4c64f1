"""What a `View` looks at: rows with named columns, held as arrays, or behind somebody's `__len__` and `__getitem__`.

A table hands out one row as its owner would (a dict, a tuple or a single value) and a column as an array. Knows no
partitions and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.errors import DataError

__all__ = ["Array", "ArrayTable", "ItemTable", "Items", "Pack", "Table", "as_dict", "as_single", "as_tuple"]

Array: TypeAlias = npt.NDArray[Any]
Pack: TypeAlias = Callable[[Mapping[str, object]], object]


def as_dict(values: Mapping[str, object]) -> object:
    """Values by the names of their columns."""
    return dict(values)


def as_tuple(values: Mapping[str, object]) -> object:
    """Values in the order of the columns."""
    return tuple(values.values())


def as_single(values: Mapping[str, object]) -> object:
    """The value of the only column."""
    (value,) = values.values()
    return value


class Table(Protocol):
    """Rows 0 … len−1 with named columns."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    @property
    def pack(self) -> Pack:
        """How values by column name become what the owner of the data calls a row."""

    def __len__(self) -> int: ...

    def row(self, number: int) -> Mapping[str, object]:
        """The values of one row by column."""

    def gather(self, name: str, rows: npt.NDArray[np.int64] | None) -> Array:
        """One column as an array, of these rows, or of all; an array that the source owns is handed out read-only."""


class ArrayTable:
    """Columns that are arrays of one length; memory-mapped ones stay on disk."""

    def __init__(self, columns: Mapping[str, Array], pack: Pack = as_dict) -> None:
        self._columns = dict(columns)
        self.pack = pack

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def row(self, number: int) -> Mapping[str, object]:
        return {name: column[number] for name, column in self._columns.items()}

    def gather(self, name: str, rows: npt.NDArray[np.int64] | None) -> Array:
        column = self._columns[name]
        return _read_only(column) if rows is None else column[rows]


class Items(Protocol):
    """What a torch dataset is, a list, and much else."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> object: ...


class ItemTable:
    """Rows that only their owner can give, one by one: a torch dataset, a list of examples.

    A dict's keys are the columns; a tuple's are named by `names_of_tuple`; anything else is one column, "x".
    Raises DataError where the first row cannot be had.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        try:
            first = items[0]
        except Exception as error:
            raise DataError(
                f"The first row of a {type(items).__name__} of {len(items)} cannot be had: dataset[0] raised "
                f"{type(error).__name__}: {error}. Rows are asked for by number, from 0 to len(dataset) - 1."
            ) from error
        self.names, self.pack = _form(first)
        self._keys: dict[str, object] = dict(zip(self.names, first, strict=True)) if isinstance(first, Mapping) else {}

    def __len__(self) -> int:
        return len(self._items)

    def row(self, number: int) -> Mapping[str, object]:
        found = self._items[number]
        match self.pack(dict.fromkeys(self.names)), found:
            case dict(), Mapping() if all(key in found for key in self._keys.values()):
                return {name: found[key] for name, key in self._keys.items()}
            case tuple(), tuple() | list() if len(found) == len(self.names):
                return dict(zip(self.names, found, strict=True))
            case value, _ if not isinstance(value, (dict, tuple)):
                return {self.names[0]: found}
            case _:
                raise DataError(
                    f"Row {number} is a {type(found).__name__}, and row 0 has the columns {', '.join(self.names)}: "
                    "give every row the same form."
                )

    def gather(self, name: str, rows: npt.NDArray[np.int64] | None) -> Array:
        if (known := self._targets.get(name)) is not None:
            return _read_only(known) if rows is None else known[rows]
        if rows is not None and len(rows) == 0:  # still of the dtype that the others have
            return stacked([self.row(0)[name]])[:0]
        return stacked([self.row(int(number))[name] for number in (range(len(self)) if rows is None else rows)])

    @cached_property
    def _targets(self) -> dict[str, Array]:
        """The labels, where the owner keeps them at hand as torchvision does, so that no picture is decoded for them."""
        if self.names != ("x", "y"):
            return {}
        found = getattr(self._items, "targets", None)
        if found is None:
            return {}
        labels = np.asarray(found)
        if labels.shape != (len(self),) or getattr(self._items, "target_transform", None) is not None:
            return {}
        return {"y": labels}


def _read_only(column: Array) -> Array:
    """The same array, which cannot be changed through the answer: what is kept of the data must go on to be true."""
    view = column.view()
    view.flags.writeable = False
    return view


def stacked(values: Sequence[object]) -> Array:
    """Values as one array: numbers and arrays of one shape are stacked, all else becomes an array of objects.

    >>> stacked([[1, 2], [3, 4]]).shape, stacked([[1], [2, 3]]).shape
    ((2, 2), (2,))
    """
    arrays = [np.asarray(value) for value in values]
    if arrays and all(one.shape == arrays[0].shape for one in arrays):
        return np.stack(arrays)
    mixed = np.empty(len(values), object)
    mixed[:] = values
    return mixed


def names_of_tuple(length: int) -> tuple[str, ...]:
    """What the parts of a tuple are called.

    >>> names_of_tuple(2), names_of_tuple(3)
    (('x', 'y'), ('x', 'y', 'column_2'))
    """
    return ("x", "y", *(f"column_{number}" for number in range(2, length)))[:length]


def _form(first: object) -> tuple[tuple[str, ...], Pack]:
    match first:
        case Mapping() if first:
            return tuple(map(str, first)), as_dict
        case tuple() | list() if first:
            return names_of_tuple(len(first)), as_tuple
        case _:
            return ("x",), as_single
