"""The L2 norm of a whole update is bounded: at the client, and at the server again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from umbel.params import NDArray, NDArrays
from umbel.transforms.base import BLOCK, Arrival, Reader, Site, Transform, plain_number, register
from umbel.update import DIFFERENCE, Update

__all__ = ["clip"]

TOLERANCE = 1 + 2**-20  # rounding to float32 makes no update longer than this times the bound


@register
def clip(norm: float) -> Transform:
    """No update is further than `norm` from what its client was given: Δ ← Δ · min(1, norm / ‖Δ‖₂).

    ‖Δ‖₂ is over all floating tensors together, in float64; integers and booleans do not count, and stay. The client clips
    what it sends. The server, which need not trust it, clips what it has decoded once more, so whatever a codec or a liar
    makes of an update moves the model by no more than `norm`, beside the rounding of the model's dtype. (McMahan et al.
    2018, "Learning Differentially Private Recurrent Language Models", Algorithm 1, FlatClip.)

    Raises `ValueError` for a norm that is not a finite number above 0.

    >>> clip(1.0)
    clip(norm=1.0)
    """
    given = plain_number(norm)
    if given is None or isinstance(given, bool) or given <= 0:
        raise ValueError(f"clip() takes a finite norm above 0; got {norm!r}")
    bound = float(given)

    def encode(update: Update, base: NDArrays, site: Site) -> Update:
        arrays = update.parts[DIFFERENCE]
        factor = _factor(bound, _norm(block for array in arrays if _is_float(array) for block in _cut(array)))
        if factor == 1.0:
            return update
        clipped = [_scale(array, factor) if _is_float(array) else array for array in arrays]
        return update._replace(parts={**update.parts, DIFFERENCE: clipped})

    def decode(reader: Reader, arrival: Arrival) -> Reader:
        specs = reader.layout[DIFFERENCE].specs

        def blocks() -> Iterator[NDArray]:
            for position, spec in enumerate(specs):
                for start in range(0, spec.size if spec.is_float else 0, BLOCK):
                    yield reader.read(DIFFERENCE, position, start, min(BLOCK, spec.size - start))

        @lru_cache(maxsize=1)  # a pass over the update, when it is first read
        def factor() -> float:
            found = _norm(blocks())
            return 1.0 if found <= bound * TOLERANCE else _factor(bound, found)

        def read(part: str, position: int, start: int, size: int) -> NDArray:
            values = reader.read(part, position, start, size)
            if part != DIFFERENCE or not specs[position].is_float or factor() == 1.0:
                return values
            return values.astype(np.float64) * factor()

        return Reader(arrival.layout, read)

    return Transform("clip", {"norm": bound}, encode=encode, decode=decode)


def _is_float(array: NDArray) -> bool:
    return array.dtype.kind in "fV"


def _cut(array: NDArray) -> Iterator[NDArray]:
    flat = array.reshape(-1)
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))


def _norm(blocks: Iterator[NDArray]) -> float:
    """In float64, by numpy's own pairwise sum: no library's order is in it."""
    squares = 0.0
    with np.errstate(over="ignore"):
        for block in blocks:
            squares += float(np.add.reduce(np.square(block.astype(np.float64))))
    return math.sqrt(squares)


def _factor(bound: float, norm: float) -> float:
    return 1.0 if norm <= bound else bound / norm


def _scale(array: NDArray, factor: float) -> NDArray:
    made = np.empty_like(array)
    for ours, theirs in zip(_cut(made), _cut(array), strict=True):
        ours[:] = theirs.astype(np.float64) * factor
    return made
