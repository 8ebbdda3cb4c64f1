"""Natural clients: one partition per value of an id column, or per group of values."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.labels import Labels, encoded
from umbel.datasets.partition.rows import IndexArray, handed_out
from umbel.errors import DataError

__all__ = ["MAX_CLIENTS", "Remainder", "first_seen", "grouped", "groups_of", "natural", "numbered_together"]

MAX_CLIENTS = 999_999


class Remainder(StrEnum):
    """What becomes of the ids that are over when ids are put into groups of one size."""

    ALLOW_SMALLER = "allow-smaller"
    ALLOW_BIGGER = "allow-bigger"
    DROP_REMINDER = "drop-reminder"
    STRICT = "strict"


def natural(ids: npt.NDArray[np.generic] | Labels) -> list[IndexArray]:
    """One partition per id, the ids ascending; the rows of each in their own order.

    Raises DataError where there are 10⁶ ids or more.

    >>> [part.tolist() for part in natural(np.array(["b", "a", "b"]))]
    [[1], [0, 2]]
    """
    found = _few(encoded(ids))
    return handed_out(np.arange(len(found)), found.codes, len(found.values))


def grouped(ids: npt.NDArray[np.generic] | Labels, groups: list[IntArray]) -> list[IndexArray]:
    """One partition per group of ids (as `groups_of` gives them); the rows id by id, in the order of the group.

    >>> [part.tolist() for part in grouped(np.array(["b", "a", "b", "c"]), [np.array([1, 0]), np.array([2])])]
    [[0, 2, 1], [3]]
    """
    found = encoded(ids)
    order = np.concatenate(groups)
    owner, place = np.full(len(found.values), len(groups)), np.full(len(found.values), len(order))
    owner[order] = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    place[order] = np.arange(len(order))
    by_place = handed_out(np.arange(len(found)), place[found.codes], len(order) + 1)[:-1]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    sizes = np.cumsum([0, *(len(rows) for rows in by_place)])
    return np.split(np.concatenate(by_place), sizes[ends])


def groups_of(
    ids: npt.NDArray[np.generic] | Labels, *, group_size: int, mode: Remainder, sort_unique_ids: bool = False
) -> list[IntArray]:
    """The ids in groups of `group_size`, as codes (places among the ascending ids), by first appearance or ascending.

    `mode` says what becomes of the ids that are over: a last group that is smaller; spread over the first groups;
    dropped; or an error.

    Raises DataError where there are fewer ids than `group_size` (unless smaller groups are allowed), where `mode` is
    strict and ids are over, and where there would be 10⁶ groups or more.

    >>> ids = np.array(["d", "a", "b", "a", "c"])
    >>> [group.tolist() for group in groups_of(ids, group_size=3, mode=Remainder.ALLOW_SMALLER)]
    [[3, 0, 1], [2]]
    """
    found = encoded(ids)
    count = len(found.values)
    order = np.arange(count) if sort_unique_ids else first_seen(found)
    whole, over = divmod(count, group_size)
    if whole == 0 and mode is not Remainder.ALLOW_SMALLER:
        raise DataError(
            f"group_size is {group_size}, and column {found.name!r} has {count} ids: no group is whole. "
            f"Set it to at most {count}, or mode='allow-smaller' for a single partition."
        )
    if whole > MAX_CLIENTS:
        raise DataError(
            f"Column {found.name!r} has {count} ids, which makes {whole} groups of {group_size}, and at most {MAX_CLIENTS} "
            f"partitions are made. Set group_size to at least {count // MAX_CLIENTS + 1}, or choose a column with fewer ids."
        )
    match mode:
        case Remainder.ALLOW_BIGGER:
            return np.array_split(order, whole)
        case Remainder.DROP_REMINDER:
            return np.array_split(order[: whole * group_size], whole)
        case Remainder.ALLOW_SMALLER:
            return [order[start : start + group_size] for start in range(0, count, group_size)]
        case Remainder.STRICT:
            if over:
                raise DataError(
                    f"mode is 'strict', and {count} ids of column {found.name!r} in groups of {group_size} leave {over} "
                    "over. Choose a group_size that divides the number of ids, or another mode."
                )
            return np.array_split(order, whole)


def first_seen(ids: Labels) -> IntArray:
    """The codes in the order in which they first appear.

    >>> first_seen(encoded(np.array([7, 5, 7, 6]))).tolist()
    [2, 0, 1]
    """
    starts = np.cumsum(ids.sizes) - ids.sizes
    return np.argsort(ids.rows[starts], kind="stable")


def numbered_together(splits: Sequence[Labels]) -> list[Labels]:
    """The same ids in several splits, as codes of one and the same `values`: all there are, ascending.

    Raises DataError where the ids of one split cannot be put in order with those of another.

    >>> train, test = encoded(np.array(["b", "c"])), encoded(np.array(["c", "a"]))
    >>> [ids.codes.tolist() for ids in numbered_together([train, test])]
    [[1, 2], [2, 0]]
    """
    try:
        values = sorted(set().union(*(ids.values for ids in splits)))  # type: ignore[type-var]  # whether they can, is seen
    except TypeError as error:
        raise DataError(
            f"The ids in column {splits[0].name!r} of the splits cannot be put in one order ({error}). "
            "Give them the same type in every split."
        ) from None
    place = {value: number for number, value in enumerate(values)}
    codes = (np.array([place[value] for value in ids.values], np.int64)[ids.codes] for ids in splits)
    return [Labels(numbers, values, ids.name) for numbers, ids in zip(codes, splits, strict=True)]


def _few(ids: Labels) -> Labels:
    if len(ids.values) > MAX_CLIENTS:
        raise DataError(
            f"Column {ids.name!r} has {len(ids.values)} different ids, and at most {MAX_CLIENTS} partitions are made. "
            "Choose a column with fewer ids, or put them in groups with GroupedNaturalIdPartitioner."
        )
    return ids
