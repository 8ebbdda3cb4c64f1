"""The largest differences of the whole update; what was left out is remembered at the client and sent later."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from umbel.params import NDArray, NDArrays
from umbel.transforms.base import Arrival, Reader, Site, Transform, plain_number, register
from umbel.transforms.differences import floats_of
from umbel.update import DIFFERENCE, Layout, Update
from umbel.wire import Schema, TensorSpec

__all__ = ["top_k"]

INDICES = "indices"
VALUES = "values"
LEFT = "left"  # in the client's memory: what it has not sent
FENCE = 4096  # indices between two that the server holds in memory


@register
def top_k(fraction: float = 0.01) -> Transform:
    """Only the largest `fraction` of the differences travels, chosen from the whole update, with error feedback.

    v = Δ + e; the k = ⌈fraction · n⌉ coordinates of v with the largest |v| travel, of equal ones those that come first;
    e ← v without them. e is the client's own memory, of the model's size, and starts at 0: what is left out is not lost, it
    is late. (Stich et al. 2018, "Sparsified SGD with Memory", Algorithm 1, on updates in place of gradients.) It goes on
    only where the server has taken the update. 8 bytes for each coordinate that travels; integers and booleans travel as
    they are.

    What is decoded is biased, and rounds are lost while the memory fills. A client that takes part seldom has an old one;
    over the network, one that is started again has none, and what it had left out is lost.

    Raises `ValueError` for a fraction that is not above 0 and at most 1.
    """
    given = plain_number(fraction)
    if given is None or isinstance(given, bool) or not 0 < given <= 1:
        raise ValueError(f"top_k() takes a fraction above 0, 1 at most; got {fraction!r}")
    fraction = float(given)

    def kept(schema: Schema) -> int:
        total = sum(schema.specs[position].size for position in floats_of(schema))
        return min(math.ceil(fraction * total), total)

    def layout(before: Layout) -> Layout:
        schema = before[DIFFERENCE]
        sizes = [schema.specs[position].size for position in floats_of(schema)]
        long = any(spec.dtype == "F64" for spec in schema.specs)
        count = kept(schema)
        return before.replaced(
            DIFFERENCE,
            {
                INDICES: Schema((TensorSpec("0", "I32" if sum(sizes) < 2**31 else "I64", (count,)),)),
                VALUES: Schema((TensorSpec("0", "F64" if long else "F32", (count,)),)),
                DIFFERENCE: Schema(tuple(spec for spec in schema.specs if not spec.is_float)),
            },
        )

    def encode(update: Update, base: NDArrays, site: Site) -> Update:
        arrays = update.parts[DIFFERENCE]
        floats = [array.reshape(-1) for array in arrays if array.dtype.kind in "fV"]
        dtype = np.dtype(np.float64 if any(array.dtype == np.float64 for array in floats) else np.float32)
        values = np.concatenate([np.empty(0, dtype), *(array.astype(dtype) for array in floats)])
        left = site.memory.get(LEFT)
        if isinstance(left, np.ndarray) and left.shape == values.shape and left.dtype == dtype:
            values += left
        indices = _largest(values, min(math.ceil(fraction * values.size), values.size))
        sent = values[indices]
        values[indices] = 0
        site.memory[LEFT] = values
        others = [array for array in arrays if array.dtype.kind not in "fV"]
        codes = [indices.astype(np.int32 if values.size < 2**31 else np.int64)]
        return update._replace(parts={**update.parts, INDICES: codes, VALUES: [sent], DIFFERENCE: others})

    def decode(reader: Reader, arrival: Arrival) -> Reader:
        schema = arrival.layout[DIFFERENCE]
        count = kept(schema)
        begins: dict[int, int] = {}
        others: dict[int, int] = {}
        at = 0
        for position, spec in enumerate(schema.specs):
            if spec.is_float:
                begins[position] = at
                at += spec.size
            else:
                others[position] = len(others)

        @lru_cache(maxsize=1)
        def fence() -> NDArray:
            """Every so many indices one: which part of them a block needs."""
            starts = range(0, count, FENCE)
            return np.array([reader.read(INDICES, 0, start, 1)[0] for start in starts], np.int64)

        def read(part: str, position: int, start: int, size: int) -> NDArray:
            if part != DIFFERENCE:
                return reader.read(part, position, start, size)
            if position in others:
                return reader.read(DIFFERENCE, others[position], start, size)
            block, low = np.zeros(size), begins[position] + start
            first = max(int(np.searchsorted(fence(), low, "right")) - 1, 0) * FENCE
            last = min(int(np.searchsorted(fence(), low + size, "left")) * FENCE, count)
            for chunk in range(first, last, FENCE):
                length = min(FENCE, last - chunk)
                found = reader.read(INDICES, 0, chunk, length).astype(np.int64) - low
                inside = (found >= 0) & (found < size)  # whatever a client has sent
                block[found[inside]] = reader.read(VALUES, 0, chunk, length)[inside]
            return block

        return Reader(arrival.layout, read)

    return Transform("top_k", {"fraction": fraction}, layout, encode, decode, biased=True, codec=True)


def _largest(values: NDArray, count: int) -> NDArray:
    """The indices, ascending, of the `count` values with the largest amounts; of equal ones those that come first."""
    if not count:
        return np.empty(0, np.int64)
    amounts = np.abs(values)
    least = np.partition(amounts, values.size - count)[values.size - count]
    above = np.flatnonzero(amounts > least)
    equal = np.flatnonzero(amounts == least)[: count - above.size]
    return np.sort(np.concatenate([above, equal]))
