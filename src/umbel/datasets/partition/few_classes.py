"""Label skew by rule: partitions of a few classes each, of shards of the sorted data, or after a table of shares."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import IntArray
from umbel.datasets.partition.labels import Labels, classes_of, encoded
from umbel.datasets.partition.rows import IndexArray, at_most_rows, handed_out
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = [
    "classes_at_random", "classes_in_turn", "distribution", "first_class_in_turn", "pathological", "shards",
]  # fmt: skip


def classes_in_turn(num_partitions: int, num_classes: int, each: int) -> IntArray:
    """Partition p has the classes p, p+1, …, p+each−1, counted round. shape (num_partitions, each).

    >>> classes_in_turn(3, 3, 2).tolist()
    [[0, 1], [1, 2], [2, 0]]
    """
    return (np.arange(num_partitions)[:, np.newaxis] + np.arange(each)) % num_classes


def classes_at_random(num_partitions: int, num_classes: int, each: int, *, seed: int) -> IntArray:
    """Each partition has `each` different classes, every choice equally likely. shape (num_partitions, each)."""
    rng = frozen_stream(seed, "datasets", "pathological")
    chosen = [rng.permutation(num_classes)[:each] for _ in range(num_partitions)]
    return np.array(chosen, dtype=np.int64).reshape(num_partitions, each)


def first_class_in_turn(num_partitions: int, num_classes: int, each: int, *, seed: int) -> IntArray:
    """Partition p has class p, counted round, and `each`−1 others at random. shape (num_partitions, each)."""
    first = np.arange(num_partitions)[:, np.newaxis] % num_classes
    others = classes_at_random(num_partitions, num_classes - 1, each - 1, seed=seed)
    return np.concatenate([first, others + (others >= first)], axis=1)


def pathological(labels: npt.NDArray[np.generic] | Labels, chosen: IntArray) -> list[IndexArray]:
    """Each class divided evenly among the partitions that chose it; `chosen`: shape (num_partitions, classes of each).

    A class that nobody chose stays unused. A partition holds its rows class by class, ascending. Li et al. (2022),
    "Federated Learning on Non-IID Data Silos", arXiv:2102.02079, section 4.1, "#C = k".

    Raises DataError where more partitions chose a class than it has rows.

    >>> [part.tolist() for part in pathological(np.array([5, 6, 5, 7, 6, 5]), classes_in_turn(2, 3, 2))]
    [[0, 2, 5, 1], [4, 3]]
    """
    found = classes_of(labels)
    num_partitions = len(chosen)
    wants = np.zeros((len(found.values), num_partitions), dtype=np.int64)
    wants[chosen, np.arange(num_partitions)[:, np.newaxis]] = 1
    askers = wants.sum(axis=1)
    if short := np.flatnonzero(askers > found.sizes).tolist():
        one = short[0]
        raise DataError(
            f"Label {found.values[one]!r} of column {found.name!r} goes to {askers[one]} partitions and has only "
            f"{found.sizes[one]} rows: some would get none. Lower num_partitions or num_classes_per_partition, "
            "or spread the classes evenly with class_assignment_mode='deterministic'."
        )
    # Of `size` rows for `askers`, the first size % askers take one more, as in `even`.
    base, over = np.divmod(found.sizes, np.maximum(askers, 1))
    turn = np.cumsum(wants, axis=1) - 1
    shares = wants * (base[:, np.newaxis] + (turn < over[:, np.newaxis]))
    return _shared_out(found, shares)


def _shared_out(found: Labels, shares: IntArray) -> list[IndexArray]:
    """`shares[c, p]` rows of class c to partition p, in the order of the rows; what is over stays unused."""
    classes, num_partitions = shares.shape
    over = found.sizes - shares.sum(axis=1)
    owners = np.repeat(
        np.tile(np.arange(num_partitions + 1), classes), np.concatenate([shares, over[:, np.newaxis]], axis=1).ravel()
    )
    return handed_out(found.rows, owners, num_partitions + 1)[:num_partitions]


def shards(
    labels: npt.NDArray[np.generic] | Labels,
    *,
    num_partitions: int,
    num_shards_per_partition: int | None = None,
    shard_size: int | None = None,
    keep_incomplete_shard: bool = False,
    seed: int = 42,
) -> list[IndexArray]:
    """The rows sorted by label and cut into shards, which are dealt to the partitions at random.

    - `num_shards_per_partition` alone: shards of `rows // (num_partitions · num_shards_per_partition)` rows.
    - both: so many shards of that size; the others stay unused.
    - `shard_size` alone: all shards are dealt, the first partitions may have one more. A last shard that is smaller
      is dealt too where `keep_incomplete_shard`.

    McMahan et al. (2017), "Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv:1602.05629,
    section 3: 200 shards of 300 digits, 2 for each client.

    Raises DataError where neither is given, or there are too few rows.

    >>> parts = shards(np.array([1, 0, 1, 0]), num_partitions=2, num_shards_per_partition=1)
    >>> sorted(part.tolist() for part in parts)
    [[0, 2], [1, 3]]
    """
    found = encoded(labels)
    size = len(found)
    at_most_rows(num_partitions, size)
    if num_shards_per_partition is not None:
        dealt = num_partitions * num_shards_per_partition
        length = size // dealt if shard_size is None else shard_size
        if length * dealt > size or length < 1:
            raise DataError(
                f"{num_partitions} partitions of {num_shards_per_partition} shards of {max(length, 1)} rows need "
                f"{dealt * max(length, 1)} rows, and there are {size}. Lower num_partitions, num_shards_per_partition "
                "or shard_size."
            )
        per_partition = np.full(num_partitions, num_shards_per_partition)
        whole_only = not keep_incomplete_shard or shard_size is not None
        usable = size // length if whole_only else -(-size // length)
    elif shard_size is not None:
        length = shard_size
        usable = dealt = -(-size // length) if keep_incomplete_shard else size // length
        if usable < num_partitions:
            raise DataError(
                f"{size} rows are {usable} shards of {length} rows for {num_partitions} partitions: some would be empty. "
                f"Set shard_size to at most {size // num_partitions}, or ask for fewer partitions."
            )
        per_partition = np.full(num_partitions, dealt // num_partitions)
        per_partition[: dealt % num_partitions] += 1
    else:
        raise DataError("Neither num_shards_per_partition nor shard_size is given: give one, or both.")
    order = frozen_stream(seed, "datasets", "shards").permutation(usable)[:dealt]
    starts = order * length
    lengths = np.minimum(length, size - starts)
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = found.rows[np.repeat(starts, lengths) + within]
    owners = np.repeat(np.repeat(np.arange(num_partitions), per_partition), lengths)
    return handed_out(rows, owners, num_partitions)


def distribution(
    labels: npt.NDArray[np.generic] | Labels,
    *,
    distribution_array: npt.NDArray[np.generic] | Sequence[Sequence[float]],
    num_partitions: int,
    num_unique_labels_per_partition: int,
    preassigned_num_samples_per_label: int,
    rescale: bool = True,
    seed: int = 42,
) -> list[IndexArray]:
    """Each class divided after its row of a table, among the partitions that have it.

    Partition p has the classes p, p+1, … p+c−1, counted round (c = `num_unique_labels_per_partition`), so a class of K
    has `columns = c · num_partitions / K` partitions, ascending: column j is the share of the j-th.
    `distribution_array`: shape (K, columns), not negative.

    `rescale`: every share starts with `preassigned_num_samples_per_label` rows; the others of the class follow in
    proportion to the table, rounded down; what is over goes to one of them at random, and all rows are used.
    Otherwise the table holds numbers of rows.

    Li et al. (2020), "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127: a table drawn from a log-normal
    gives its power law.

    Raises DataError where the table has another shape, or a class has too few rows.

    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> table = [[1, 2], [2, 1]]
    >>> [part.tolist() for part in distribution(labels, distribution_array=table, num_partitions=2,
    ...     num_unique_labels_per_partition=2, preassigned_num_samples_per_label=0, rescale=False)]
    [[0, 3, 4], [5, 1, 2]]
    """
    found = classes_of(labels)
    classes, each = len(found.values), num_unique_labels_per_partition
    at_most_rows(num_partitions, len(found))
    if num_partitions % classes:
        raise DataError(
            f"num_partitions is {num_partitions}, and must be a multiple of the {classes} labels of column {found.name!r}. "
            f"Ask for {max(num_partitions // classes, 1) * classes} partitions."
        )
    if each > classes:
        raise _too_many_classes("num_unique_labels_per_partition", each, found)
    table = _table(distribution_array, found, each * num_partitions // classes)
    columns = table.shape[1]
    if rescale:
        spread = found.sizes - columns * preassigned_num_samples_per_label
        if short := np.flatnonzero(spread < columns).tolist():
            raise DataError(
                f"preassigned_num_samples_per_label is {preassigned_num_samples_per_label}: "
                f"label {found.values[short[0]]!r} has {found.sizes[short[0]]} rows for {columns} partitions, "
                "and each needs that many and one more. Lower it, or ask for fewer partitions."
            )
        shares = np.floor(table / _row_sums(table) * spread[:, np.newaxis]).astype(np.int64)
        shares += preassigned_num_samples_per_label
        lucky = frozen_stream(seed, "datasets", "distribution").randint(0, columns, size=classes, dtype=np.int64)
        shares[np.arange(classes), lucky] += found.sizes - shares.sum(axis=1)
    else:
        shares = table.astype(np.int64)
        if short := np.flatnonzero(shares.sum(axis=1) > found.sizes).tolist():
            raise DataError(
                f"distribution_array asks for {shares[short[0]].sum()} rows of label {found.values[short[0]]!r}, which has "
                f"{found.sizes[short[0]]}. Lower row {short[0]} of the table, or set rescale=True."
            )
    chosen = classes_in_turn(num_partitions, classes, each)
    spread_out = np.zeros((classes, num_partitions), dtype=np.int64)
    for one in range(classes):
        spread_out[one, np.flatnonzero((chosen == one).any(axis=1))] = shares[one]
    # The order of the classes within a partition is that of its choice: p first.
    parts = _shared_out(found, spread_out)
    return [np.concatenate([part[found.codes[part] == one] for one in chosen[number]]) for number, part in enumerate(parts)]


def _too_many_classes(parameter: str, each: int, found: Labels) -> DataError:
    return DataError(
        f"{parameter} is {each}, and column {found.name!r} has {len(found.values)} different labels. "
        f"Set it to at most {len(found.values)}."
    )


def _table(
    array: npt.NDArray[np.generic] | Sequence[Sequence[float]], found: Labels, columns: int
) -> npt.NDArray[np.float64]:
    table = np.asarray(array, dtype=np.float64)
    if table.shape != (len(found.values), columns):
        raise DataError(
            f"distribution_array has shape {table.shape}, and must have ({len(found.values)}, {columns}): a row for each "
            "label and num_unique_labels_per_partition · num_partitions / labels columns."
        )
    if not (np.isfinite(table).all() and (table >= 0).all() and (table.sum(axis=1) > 0).all()):
        raise DataError(
            "distribution_array has a negative, infinite or NaN entry, or a row of zeros; its rows are shares. "
            "Give finite numbers from 0 up, some of them above 0 in each row."
        )
    return table


def _row_sums(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([[fsum(row)] for row in table.tolist()])
