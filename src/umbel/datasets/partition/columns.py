"""Vertical partitions: all rows, some columns each. Names in, names out; no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["ActiveParty", "by_fraction", "core_columns", "evenly", "in_counts", "with_parties"]


class ActiveParty(StrEnum):
    """Where the columns of the active party (labels, as a rule) go."""

    ADD_TO_FIRST = "add_to_first"
    ADD_TO_LAST = "add_to_last"
    CREATE_AS_FIRST = "create_as_first"
    CREATE_AS_LAST = "create_as_last"
    ADD_TO_ALL = "add_to_all"


def core_columns(
    names: Sequence[str],
    *,
    active: Sequence[str],
    drop: Sequence[str],
    shared: Sequence[str],
    shuffle: bool = True,
    seed: int = 42,
) -> list[str]:
    """The columns that are divided: those with no other role, in their own order or a random one.

    Raises DataError where a role names a column that is not there, or two roles name the same one.

    >>> core_columns(["a", "b", "label"], active=["label"], drop=[], shared=[], shuffle=False)
    ['a', 'b']
    """
    roles: dict[str, str] = {}
    for role, chosen in {"active_party_columns": active, "drop_columns": drop, "shared_columns": shared}.items():
        for name in chosen:
            if name not in names:
                raise DataError(f"{role} names {name!r}, and there is no such column. Columns: {', '.join(names)}.")
            if name in roles:
                raise DataError(
                    f"Column {name!r} is in {roles[name]} and in {role}: a column has one role. Take it out of one."
                )
            roles[name] = role
    core = [name for name in names if name not in roles]
    if not shuffle:
        return core
    return [core[place] for place in frozen_stream(seed, "datasets", "columns").permutation(len(core))]


def evenly(columns: Sequence[str], num_partitions: int) -> list[list[str]]:
    """Consecutive runs of columns, the first ones a column longer.

    Raises DataError where some partition would be empty.

    >>> evenly(["a", "b", "c"], 2)
    [['a', 'b'], ['c']]
    """
    if num_partitions > len(columns):
        raise DataError(
            f"{num_partitions} partitions of {len(columns)} columns ({', '.join(columns) or 'none'}): some would be empty. "
            f"Ask for at most {len(columns)} partitions."
        )
    each, over = divmod(len(columns), num_partitions)
    return in_counts(columns, [each + (number < over) for number in range(num_partitions)])


def in_counts(columns: Sequence[str], counts: Sequence[int]) -> list[list[str]]:
    """Consecutive runs of `counts` columns; a run may be empty.

    Raises DataError where the counts do not add up to the number of columns.

    >>> in_counts(["a", "b", "c"], [1, 2])
    [['a'], ['b', 'c']]
    """
    if sum(counts) != len(columns):
        raise DataError(
            f"partition_sizes add up to {sum(counts)} columns, and {len(columns)} are to be divided "
            f"({', '.join(columns) or 'none'}; active, shared and dropped ones do not count). Make the two equal."
        )
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return [list(columns[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def by_fraction(columns: Sequence[str], fractions: Sequence[float]) -> list[list[str]]:
    """Runs of floor(fraction · columns) columns; the last takes what is over.

    >>> by_fraction(["a", "b", "c"], [0.5, 0.5])
    [['a'], ['b', 'c']]
    """
    counts = [int(fraction * len(columns)) for fraction in fractions[:-1]]
    return in_counts(columns, [*counts, len(columns) - sum(counts)])


def with_parties(
    parts: list[list[str]], *, active: Sequence[str], mode: ActiveParty | int, shared: Sequence[str]
) -> list[list[str]]:
    """`parts` with the active party's columns where `mode` says (an int: that partition), and the shared ones in all.

    Raises DataError where `mode` is the number of no partition.

    >>> with_parties([["a"], ["b"]], active=["label"], mode=ActiveParty.CREATE_AS_LAST, shared=["id"])
    [['a', 'id'], ['b', 'id'], ['label', 'id']]
    """
    whole = [list(part) for part in parts]
    match mode:
        case ActiveParty.CREATE_AS_FIRST:
            whole.insert(0, list(active))
        case ActiveParty.CREATE_AS_LAST:
            whole.append(list(active))
        case ActiveParty.ADD_TO_ALL:
            whole = [part + list(active) for part in whole]
        case ActiveParty.ADD_TO_FIRST:
            whole[0] += active
        case ActiveParty.ADD_TO_LAST:
            whole[-1] += active
        case int():
            if not 0 <= mode < len(whole):
                raise DataError(
                    f"active_party_columns_mode is {mode}, but there are {len(whole)} partitions: give a number "
                    f"from 0 to {len(whole) - 1}, or one of {', '.join(repr(one.value) for one in ActiveParty)}."
                )
            whole[mode] += active
    return [part + list(shared) for part in whole]
