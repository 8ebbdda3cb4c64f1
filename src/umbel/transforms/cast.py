"""Differences as floats of 16 bits."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from umbel.params import NDArray, NDArrays
from umbel.transforms.base import BLOCK, Arrival, Reader, Site, Transform, register
from umbel.transforms.differences import floats_of
from umbel.update import DIFFERENCE, Layout, Update
from umbel.wire import LARGEST, Schema, TensorSpec, dtype_of

__all__ = ["SCALES", "cast"]

SCALES = "scales"  # the part that has what codes are multiplied with

_TAGS = {"fp16": "F16", "bf16": "BF16"}
_EXPONENT = 14  # the largest number of a tensor becomes 2**14 to 2**15: float16 ends at 65504


@register
def cast(to: str) -> Transform:
    """Differences of more than 16 bits travel as "fp16" or "bf16": half the bytes of float32.

    Each tensor is divided by a power of two first, which travels beside it in float64, so that float16 neither overflows
    (at 65504) nor flushes small differences to 0 (below 6e-8). What is lost is the rounding to nearest: a relative error
    of at most 2⁻¹¹ in fp16, for values within 2⁻²⁸ of the tensor's largest, and of 2⁻⁹ in bf16. Integers, booleans and
    shorter floats travel as they are.

    Raises `ValueError` for any other `to`.
    """
    if not isinstance(to, str) or to not in _TAGS:
        raise ValueError(f'cast() takes "fp16" or "bf16"; got {to!r}')
    tag = _TAGS[to]

    def positions(schema: Schema) -> list[int]:
        return [i for i in floats_of(schema) if dtype_of(schema.specs[i].dtype).itemsize > 2]

    def layout(before: Layout) -> Layout:
        schema = before[DIFFERENCE]
        chosen = set(positions(schema))
        specs = (spec._replace(dtype=tag) if i in chosen else spec for i, spec in enumerate(schema.specs))
        scales = Schema((TensorSpec("0", "F64", (len(chosen),)),))
        return before.replaced(DIFFERENCE, {DIFFERENCE: Schema(tuple(specs)), SCALES: scales})

    def encode(update: Update, base: NDArrays, site: Site) -> Update:
        arrays, scales = [], []
        for array in update.parts[DIFFERENCE]:
            if array.dtype.kind not in "fV" or array.dtype.itemsize <= 2:
                arrays.append(array)
                continue
            scale = _scale(array)
            made = np.empty(array.shape, dtype_of(tag))
            ours, theirs = made.reshape(-1), array.reshape(-1)
            for start in range(0, ours.size, BLOCK):
                ours[start : start + BLOCK] = theirs[start : start + BLOCK].astype(np.float64) / scale
            arrays.append(made)
            scales.append(scale)
        return update._replace(parts={**update.parts, DIFFERENCE: arrays, SCALES: [np.array(scales, np.float64)]})

    def decode(reader: Reader, arrival: Arrival) -> Reader:
        chosen = {position: i for i, position in enumerate(positions(arrival.layout[DIFFERENCE]))}

        @lru_cache(maxsize=1)
        def scales() -> NDArray:
            return reader.read(SCALES, 0, 0, len(chosen))

        def read(part: str, position: int, start: int, size: int) -> NDArray:
            values = reader.read(part, position, start, size)
            if part != DIFFERENCE or position not in chosen:
                return values
            numbers: NDArray = values.astype(np.float64)
            numbers *= scales()[chosen[position]]
            return np.clip(numbers, -LARGEST, LARGEST, out=numbers)  # a liar's bfloat16 and scale may be too much together

        return Reader(arrival.layout, read)

    return Transform("cast", {"to": to}, layout, encode, decode, codec=True)


def _scale(array: NDArray) -> float:
    """A power of two by which the array's largest number becomes 2**14 to 2**15; 1 where all are 0."""
    largest = float(max(array.max(initial=0.0), -array.min(initial=0.0)))
    return math.ldexp(1.0, max(math.frexp(largest)[1] - _EXPONENT - 1, -1022)) if largest else 1.0
