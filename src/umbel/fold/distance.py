"""How far an update is from the version it started from: the L2 norm of the whole difference, in float64.

Knows blocks and schemas; knows no files, clients or rounds. The bits depend on the coordinates and their order alone, not on
the pieces in which they come: a network cuts them as it likes, a simulation does not cut them at all.
"""

from __future__ import annotations

import math

import numpy as np

from umbel.params import NDArray
from umbel.wire import Schema, Source, dtype_of

__all__ = ["Distance", "differs", "distance"]

BLOCK = 1 << 13  # coordinates whose squares are added up at a time; in float64 they stay in a level-1 or level-2 cache


class Distance:
    """The distance of an update, to which its coordinates are added in order.

    >>> d = Distance()
    >>> d.add(np.array([3.0, 0.0]), np.array([0.0, 0.0]))
    >>> d.add(np.array([1], "int8"), np.array([5], "float32"))
    >>> d.norm()
    5.0
    """

    def __init__(self) -> None:
        self._room = np.empty(BLOCK)
        self._filled = 0
        self._squares = 0.0

    def add(self, values: NDArray, base: NDArray) -> None:
        """Takes the next coordinates: 1-d arrays of one size, of any real dtypes."""
        start = 0
        while start < values.size:
            stop = min(start + BLOCK - self._filled, values.size)
            into = self._room[self._filled : self._filled + stop - start]
            np.subtract(_real(values[start:stop]), _real(base[start:stop]), out=into, dtype=np.float64)
            self._filled += stop - start
            start = stop
            if self._filled == BLOCK:
                self._flush()

    def norm(self) -> float:
        """The norm of everything that was added; infinite where its square is too large for float64. Ends the adding."""
        self._flush()
        return math.sqrt(self._squares)

    def _flush(self) -> None:
        block = self._room[: self._filled]
        with np.errstate(over="ignore"):
            self._squares += float(np.add.reduce(np.square(block, out=block)))  # pairwise: no library's order is in it
        self._filled = 0


def differs(update: Schema, base: Schema, position: int) -> bool:
    """Whether the tensor counts in the norm: it is floating on one side at least. Counters and masks do not."""
    return update.specs[position].is_float or base.specs[position].is_float


def distance(update: tuple[Schema, Source], base: tuple[Schema, Source]) -> float:
    """The distance between two contents of the same shapes, read block by block."""
    total = Distance()
    (ours, read), (theirs, read_base) = update, base
    for position in ours.layout:
        if not differs(ours, theirs, position):
            continue
        for start in range(0, ours.specs[position].size, BLOCK):
            size = min(BLOCK, ours.specs[position].size - start)
            total.add(_block(ours, read, position, start, size), _block(theirs, read_base, position, start, size))
    return total.norm()


def _block(schema: Schema, source: Source, position: int, start: int, size: int) -> NDArray:
    block = np.empty(size, dtype_of(schema.specs[position].dtype))
    source(schema.offsets[position] + start * block.dtype.itemsize, block.view(np.uint8).data)
    return block


def _real(values: NDArray) -> NDArray:
    return values.astype(np.float64) if values.dtype.kind == "V" else values  # ml_dtypes' ufuncs do not mix with float64
