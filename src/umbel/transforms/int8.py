"""Differences as integers of 8 bits, rounded at random so that on average nothing is lost."""

from __future__ import annotations

import numpy as np

from umbel.params import NDArray, NDArrays
from umbel.transforms.base import Arrival, Reader, Site, Transform, plain_number, register
from umbel.transforms.cast import SCALES
from umbel.transforms.differences import floats_of
from umbel.update import DIFFERENCE, Layout, Update
from umbel.wire import Schema, TensorSpec

__all__ = ["int8"]

LEVELS = 127
MANY = 16  # blocks that are rounded together


@register
def int8(block: int = 4096) -> Transform:
    """Differences travel as int8, with a scale for every `block` values: a quarter of the bytes of float32.

    In a block the scale is s = max|Δ| / 127 and the code ⌊Δ/s + u⌋, u uniform in [0, 1): the expected value of s · code is
    Δ, and it is off by less than s. (Alistarh et al. 2017, "QSGD", stochastic rounding; with the largest value in place of
    the norm.) u has an address, so the same client makes the same codes of the same update. Scales are float64: 1.002 bytes
    a value at the default. Integers and booleans travel as they are.

    Raises `ValueError` for a `block` that is not a whole number of 1 or more.
    """
    given = plain_number(block)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(f"int8() takes a block of 1 value or more; got {block!r}")
    block = given

    def places(schema: Schema) -> dict[int, int]:
        """For each floating tensor the place of its first scale; and their number, under -1."""
        found, at = {}, 0
        for position in floats_of(schema):
            found[position] = at
            at += -(-schema.specs[position].size // block)
        return {**found, -1: at}

    def layout(before: Layout) -> Layout:
        schema = before[DIFFERENCE]
        codes = Schema(tuple(spec._replace(dtype="I8") if spec.is_float else spec for spec in schema.specs))
        scales = Schema((TensorSpec("0", "F64", (places(schema)[-1],)),))
        return before.replaced(DIFFERENCE, {DIFFERENCE: codes, SCALES: scales})

    def encode(update: Update, base: NDArrays, site: Site) -> Update:
        arrays, scales, rng = [], [np.empty(0)], site.rng()
        for array in update.parts[DIFFERENCE]:
            if array.dtype.kind not in "fV":
                arrays.append(array)
                continue
            codes, found = _quantize(array.reshape(-1), block, rng)
            arrays.append(codes.reshape(array.shape))
            scales.append(found)
        return update._replace(parts={**update.parts, DIFFERENCE: arrays, SCALES: [np.concatenate(scales)]})

    def decode(reader: Reader, arrival: Arrival) -> Reader:
        begins = places(arrival.layout[DIFFERENCE])

        def read(part: str, position: int, start: int, size: int) -> NDArray:
            values = reader.read(part, position, start, size)
            if part != DIFFERENCE or position not in begins or not size:
                return values
            first, last = start // block, (start + size - 1) // block
            scales = reader.read(SCALES, 0, begins[position] + first, last + 1 - first)
            counts = np.full(len(scales), block)  # a block may be much longer than what is read
            counts[0] -= start - first * block
            counts[-1] -= (last + 1) * block - (start + size)
            factors: NDArray = np.repeat(scales, counts)
            factors *= values
            return factors

        return Reader(arrival.layout, read)

    return Transform("int8", {"block": block}, layout, encode, decode, codec=True)


def _quantize(values: NDArray, block: int, rng: np.random.RandomState) -> tuple[NDArray, NDArray]:
    """The codes of a tensor, and its blocks' scales."""
    block = min(block, max(values.size, 1))
    codes, scales = np.empty(values.size, np.int8), np.empty(-(-values.size // block))
    for start in range(0, values.size, MANY * block):
        some = values[start : start + MANY * block].astype(np.float64)
        rows = np.zeros((-(-some.size // block), block))
        rows.reshape(-1)[: some.size] = some
        found = np.abs(rows).max(axis=1) / LEVELS
        scales[start // block : start // block + len(rows)] = found
        rows /= np.where(found == 0, 1.0, found)[:, None]
        shifted = rows.reshape(-1)[: some.size]
        shifted += rng.random_sample(some.size)
        codes[start : start + some.size] = np.clip(np.floor(shifted), -LEVELS, LEVELS)
    return codes, scales
