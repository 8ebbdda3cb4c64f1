"""Partitions along a measured quantity: from a random division to one by rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.datasets.partition.draws import normal, total
from umbel.datasets.partition.labels import missing, without_value
from umbel.datasets.partition.rows import IndexArray, at_most_rows
from umbel.errors import DataError
from umbel.rng import frozen_stream

__all__ = ["continuous"]


def continuous(
    values: npt.NDArray[np.generic], *, num_partitions: int, strictness: float, seed: int = 42, name: str = "values"
) -> list[IndexArray]:
    """Even parts of the rows in the order of strictness·z + (1 − strictness)·noise.

    z is `values` (real numbers, shape (rows,)) with mean 0 and variance 1; the noise is standard normal. strictness 1: by
    rank, ties in their own order; 0: at random. All rows are used; a partition holds its rows in that order.

    Raises DataError where a value is None, NaN, no time or infinite, and where all are equal and strictness is not 0.

    >>> [part.tolist() for part in continuous(np.array([3.0, 1.0, 2.0, 0.0]), num_partitions=2, strictness=1.0)]
    [[3, 1], [2, 0]]
    """
    at_most_rows(num_partitions, len(values))
    if nothing := without_value(values):
        raise missing(name, nothing[0], len(nothing))
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Column {name!r} has values that are not numbers ({error}). Choose a measured column, or divide by "
            "label with DirichletPartitioner."
        ) from error
    if numbers.ndim != 1:
        raise DataError(f"Column {name!r} has shape {numbers.shape}, and must have one number per row.")
    if nothing := without_value(numbers):  # "nan", as text
        raise missing(name, nothing[0], len(nothing))
    if len(wrong := np.flatnonzero(np.isinf(numbers))):
        raise DataError(f"Column {name!r} is infinite in row {wrong[0]}; its variance must be finite. Drop such rows.")
    noise = normal(frozen_stream(seed, "datasets", "continuous"), len(numbers))
    blended = (1 - strictness) * noise
    if strictness > 0:
        blended += strictness * _standardized(numbers, name)
    return np.array_split(np.argsort(blended, kind="stable").astype(np.int64, copy=False), num_partitions)


def _standardized(numbers: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    scale = float(np.abs(numbers).max()) or 1.0  # so that no square overflows
    around = numbers / scale
    around -= total(around) / len(around)
    deviation = float(np.sqrt(total(around * around) / len(around)))
    if deviation == 0:  # exactly, where all are equal: they are 1, -1 or 0 here, and so is their mean
        raise DataError(
            f"All values of column {name!r} are {numbers[0]:g}, so there is no order to divide by. "
            "Choose another column, or set strictness=0."
        )
    return around / deviation
