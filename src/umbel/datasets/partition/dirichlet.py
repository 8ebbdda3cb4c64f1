"""Label skew by Dirichlet draws: per class (who gets how much of it), or per client (which classes it has)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import FloatArray, IntArray, dirichlet_weights
from umbel.datasets.partition.labels import Labels, classes_of
from umbel.datasets.partition.rows import IndexArray, at_most_rows, cuts, handed_out, stable_order
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["TRIES", "alphas", "dirichlet", "inner_dirichlet"]

TRIES = 11
_SMALLEST = 1e-300  # alpha: below, a draw's logarithm has no float64
_CHUNK = 2**16


def alphas(alpha: float | Sequence[float] | npt.NDArray[np.generic], length: int, *, per: str) -> FloatArray:
    """`alpha` as a vector of `length`, a copy. Raises DataError where it is less than 1e-300 or has another length.

    >>> alphas(0.5, 3, per="partition").tolist()
    [0.5, 0.5, 0.5]
    """
    try:
        vector = np.array(alpha, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(f"alpha is {alpha!r}, and must be a positive number, or a list of one per {per}.") from error
    if np.ndim(alpha) == 0:
        vector = np.repeat(vector, length)
    if len(vector) != length:
        raise DataError(
            f"alpha has {len(vector)} entries, and must have {length}: give one per {per}, or a single number for all."
        )
    if wrong := np.flatnonzero(~(np.isfinite(vector) & (vector >= _SMALLEST))).tolist():
        raise DataError(
            f"alpha is {vector[wrong[0]]} for {per} {wrong[0]}, and must be {_SMALLEST} at least and finite: "
            "0.1 for clients that hardly overlap, 100 for nearly equal ones."
        )
    return vector


def dirichlet(
    labels: npt.NDArray[np.generic] | Labels,
    *,
    num_partitions: int,
    alpha: float | Sequence[float] | npt.NDArray[np.generic],
    min_partition_size: int = 10,
    self_balancing: bool = False,
    seed: int = 42,
) -> list[IndexArray]:
    """Each class is divided among all partitions in shares ~ Dirichlet(alpha). All rows are used.

    `alpha`: a number, or one per partition. `self_balancing`: a partition that has more than its even share of rows
    gets nothing of the classes that follow. Where a partition has less than `min_partition_size` rows, all is drawn
    again, up to 11 times. A partition holds its rows class by class, ascending.

    Yurochkin et al. (2019), "Bayesian Nonparametric Federated Learning of Neural Networks", arXiv:1905.12022, section 4;
    the balancing is in the code of that paper.

    Raises DataError where `min_partition_size` is not reached, and as `alphas` and `classes_of` do.

    >>> parts = dirichlet(np.arange(90) % 3, num_partitions=2, alpha=1.0)
    >>> sorted(np.concatenate(parts).tolist()) == list(range(90))
    True
    """
    found = classes_of(labels)
    at_most_rows(num_partitions, len(found))
    concentration = alphas(alpha, num_partitions, per="partition")
    reserved = min_partition_size * num_partitions
    if reserved > len(found):
        raise DataError(
            f"min_partition_size is {min_partition_size}: {num_partitions} partitions need {reserved} rows, and there are "
            f"{len(found)}. Set it to at most {len(found) // num_partitions}, or ask for fewer partitions."
        )
    rng = frozen_stream(seed, "datasets", "dirichlet")
    best = -1
    for _ in range(TRIES):
        weights = dirichlet_weights(rng, concentration, len(found.values))
        shares = _balanced(weights, found.sizes) if self_balancing else cuts(weights, found.sizes)
        smallest = int(shares.sum(axis=0).min())
        if smallest >= min_partition_size:
            owners = np.repeat(np.tile(np.arange(num_partitions), len(found.values)), shares.ravel())
            return handed_out(found.rows, owners, num_partitions)
        best = max(best, smallest)
    raise DataError(
        f"min_partition_size is {min_partition_size}, and in {TRIES} tries of drawing from "
        f"Dirichlet(alpha={_span(concentration)}) the smallest of {num_partitions} partitions never had "
        f"more than {best} of {len(found)} rows. Set min_partition_size to {best} or less, raise alpha, "
        "or ask for fewer partitions."
    )


def _span(vector: FloatArray) -> str:
    low, high = float(vector.min()), float(vector.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _balanced(weights: IntArray, sizes: IntArray) -> IntArray:
    """Shares of each class, shape (classes, partitions), where whoever has more than the mean gets no more."""
    num_partitions = weights.shape[1]
    held = np.zeros(num_partitions, dtype=np.int64)
    shares = np.empty_like(weights)
    for one, size in enumerate(sizes):
        open_ = held * num_partitions <= sizes.sum()  # someone always is: not all can have more than the mean
        shares[one] = cuts(np.where(open_, weights[one], 0), int(size))
        held += shares[one]
    return shares


def inner_dirichlet(
    labels: npt.NDArray[np.generic] | Labels,
    *,
    partition_sizes: Sequence[int] | npt.NDArray[np.generic],
    alpha: float | Sequence[float] | npt.NDArray[np.generic],
    seed: int = 42,
) -> list[IndexArray]:
    """Partitions of given sizes, each with its own mix of classes ~ Dirichlet(alpha).

    `alpha`: a number, or one per class, the classes ascending. The places of all partitions take their turns in random
    order; each draws its class from its partition's mix, restricted to the classes that still have rows.

    Acar et al. (2021), "Federated Learning Based on Dynamic Regularization", arXiv:2111.04263, appendix A. In the code of
    that paper a turn belongs to a client drawn uniformly, here to a place: large clients are not left with the leftovers.

    Raises DataError where the sizes add up to more rows than there are, and as `alphas` and `classes_of` do.

    >>> [len(part) for part in inner_dirichlet(np.arange(9) % 3, partition_sizes=[2, 5], alpha=0.1)]
    [2, 5]
    """
    found = classes_of(labels)
    sizes = np.asarray(partition_sizes, dtype=np.int64)
    at_most_rows(len(sizes), len(found))
    places = int(sizes.sum())
    if places > len(found):
        raise DataError(
            f"partition_sizes add up to {places} rows, and there are {len(found)}. "
            f"Make them {places - len(found)} rows smaller together."
        )
    rng = frozen_stream(seed, "datasets", "inner-dirichlet")
    weights = dirichlet_weights(rng, alphas(alpha, len(found.values), per="class"), len(sizes))
    owners = np.repeat(np.arange(len(sizes)), sizes)[rng.permutation(places)]
    classes = _turns(rng, weights, owners, found.sizes)
    # The first turn that draws a class takes its first row, the next one its second row, and so on.
    order = stable_order(classes)
    taken = np.bincount(classes, minlength=len(found.values))
    starts = np.cumsum(found.sizes) - found.sizes
    places_in_rows = np.repeat(starts - (np.cumsum(taken) - taken), taken) + np.arange(places)
    rows = np.empty(places, dtype=np.int64)
    rows[order] = found.rows[places_in_rows]
    return handed_out(rows, owners, len(sizes))


def _turns(rng: np.random.RandomState, weights: IntArray, owners: IntArray, sizes: IntArray) -> IntArray:
    """The class that each turn draws; a class is drawn as often as it has rows at most. shape (turns,).

    In chunks of turns. Where one would draw a class once too often, the class closes at the first such turn, and the
    turns from there on that drew it draw again from the classes that are open. Those that drew another one keep it:
    given that it is open, its chances are the same.
    """
    left, open_ = sizes.copy(), np.ones(len(sizes), dtype=bool)
    drawn = np.empty(len(owners), dtype=np.int64)
    table = _table(weights, open_)
    for start in range(0, len(owners), _CHUNK):
        who = owners[start : start + _CHUNK]
        classes = _draw(rng, table, who)
        while len(over := np.flatnonzero(np.bincount(classes, minlength=len(sizes)) > left)):
            firsts = [int(np.flatnonzero(classes == one)[left[one]]) for one in over]
            turn = min(firsts)
            closing = int(over[firsts.index(turn)])
            open_[closing] = False
            table = _table(weights, open_)
            again = turn + np.flatnonzero(classes[turn:] == closing)
            classes[again] = _draw(rng, table, who[again])
        left -= np.bincount(classes, minlength=len(sizes))
        drawn[start : start + _CHUNK] = classes
    return drawn


def _table(weights: IntArray, open_: npt.NDArray[np.bool_]) -> FloatArray:
    """Row r: r + the cumulative shares of the open classes, so that all rows together ascend. shape as `weights`."""
    ends = np.cumsum(np.where(open_, weights, 0), axis=1)
    table: FloatArray = ends / ends[:, -1:] + np.arange(len(weights))[:, np.newaxis]
    return table


def _draw(rng: np.random.RandomState, table: FloatArray, who: IntArray) -> IntArray:
    """One class for each entry of `who`."""
    spots = who + rng.random_sample(len(who)) * (1 - 2.0**-20)  # so that the sum never rounds up to the next row
    places: IntArray = np.searchsorted(table.ravel(), spots, side="right").astype(np.int64) - who * table.shape[1]
    return places
