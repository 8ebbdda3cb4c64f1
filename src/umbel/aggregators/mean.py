"""The weighted mean (McMahan et al. 2017, Algorithm 1): exact for integers, in float64 for floats.

Floats are multiplied by their weight and added in float64 whatever their width: at 10^5 clients a float32 sum has lost
three digits. The sum is divided once, at the end, and rounded once, to the model's dtype. Integers are summed without any
rounding and divided half to even; booleans are decided by weighted majority, a tie being False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.aggregators.accumulators import Wire, Written
from umbel.aggregators.base import Aggregator
from umbel.aggregators.compiled import gate, suits
from umbel.params import DType, NDArray

__all__ = ["mean", "rounded"]

_EXACT = 2**63 - 1  # the largest sum that int64 holds


@dataclass(slots=True)
class _Sum:
    dtype: DType
    values: NDArray | None = None  # Σ weight × block: float64, int64, or object (Python integers)
    weight: float = 0  # Σ weight
    bound: int = 0  # no integer sum can be larger in size; tells when int64 would overflow


def mean() -> Aggregator:
    """Σ wᵢ·xᵢ / Σ wᵢ over the updates of a round.

    A model of integers that is answered with floats gets the rounded mean of the floats.

    >>> import numpy as np
    >>> from umbel.aggregators import fold
    >>> blocks = [(0, np.array([1, 3]), 1), (1, np.array([2, 4]), 1)]
    >>> fold(mean(), np.dtype("int64"), blocks, chunk=1).tolist()   # 1.5 and 3.5: half to even
    [2, 4]
    """
    return Aggregator(init=_Sum, add=_add, merge=_merge, finish=_finish, wire=Wire(_write, _read))


def _add(acc: _Sum, block: NDArray, weight: float) -> _Sum:
    if block.dtype.kind == "f" and acc.dtype != np.bool_ and acc.values is not None and acc.values.dtype == np.float64:
        loops = gate(block.size) if suits(block) else None
        if loops is None:
            acc.values += np.multiply(block, weight, dtype=np.float64)
        else:
            loops.add(acc.values, block, float(weight))
        acc.weight += weight
        return acc
    term = _Sum(acc.dtype, weight=weight)
    if acc.dtype == np.bool_:
        block = block.astype(np.bool_)  # one vote each, also for a client that answers 1000
    if _is_integer(block.dtype) and _is_integer(acc.dtype) and float(weight).is_integer():
        whole = int(weight)
        largest = max(abs(int(block.max(initial=0))), abs(int(block.min(initial=0))))
        term.bound = largest * whole
        wide = block.astype(np.int64 if largest <= _EXACT and term.bound <= _EXACT else object)
        term.values = wide * whole
    elif block.dtype.kind == "V":  # bfloat16 and float8: ml_dtypes' ufuncs do not mix with float64
        term.values = block.astype(np.float64) * weight
    else:
        loops = gate(block.size) if suits(block) else None
        if loops is None:
            term.values = np.multiply(block, weight, dtype=np.float64)
        else:
            term.values = np.empty(block.shape)
            loops.scaled(term.values, block, float(weight))
    return _merge(acc, term)


def _merge(acc: _Sum, other: _Sum) -> _Sum:
    if acc.values is None or other.values is None:
        return other if acc.values is None else acc
    acc.weight += other.weight
    acc.bound += other.bound
    if np.float64 in (acc.values.dtype, other.values.dtype):
        into = acc.values if acc.values.dtype == np.float64 else None
        acc.values = np.add(acc.values, other.values, out=into, dtype=np.float64, casting="unsafe")
    elif acc.bound > _EXACT or object in (acc.values.dtype, other.values.dtype):
        acc.values = acc.values.astype(object) + other.values
    else:
        acc.values += other.values
    return acc


def _finish(acc: _Sum, dtype: DType) -> NDArray:
    if acc.values is None or not acc.weight > 0:
        raise ValueError("the mean of updates without weight: every num_examples is 0")
    if dtype == np.bool_:
        return np.asarray(2 * acc.values > acc.weight)
    if not _is_integer(dtype):
        return np.asarray(acc.values / acc.weight).astype(dtype)
    if acc.values.dtype == np.float64:
        return rounded(acc.values / acc.weight, dtype)
    whole = int(acc.weight)
    values = acc.values if 2 * whole <= _EXACT else acc.values.astype(object)  # twice the rest must fit, too
    quotient, rest = values // whole, values % whole
    up = (2 * rest > whole) | ((2 * rest == whole) & (quotient % 2 == 1))
    return np.asarray(quotient + up.astype(quotient.dtype)).astype(dtype)


def _write(acc: _Sum) -> Written:
    rest: dict[str, Any] = {"weight": acc.weight, "bound": acc.bound}
    if acc.values is None:
        return {}, rest
    if acc.values.dtype == object:  # beyond int64: rare, and JSON has integers of any size
        return {}, rest | {"values": acc.values.tolist()}
    return {"values": acc.values}, rest


def _read(dtype: DType, arrays: Mapping[str, NDArray], rest: Mapping[str, Any]) -> _Sum:
    values = arrays.get("values")
    if values is None and "values" in rest:
        values = np.array(rest["values"], dtype=object)
    return _Sum(dtype, values, rest["weight"], rest["bound"])


def rounded(values: NDArray, dtype: DType) -> NDArray:
    """Floats as the model's `dtype`: integers half to even and within their range, booleans true above one half.

    >>> rounded(np.array([0.5, 1.5, 300.0]), np.dtype("uint8")).tolist()
    [0, 2, 255]
    """
    if dtype == np.bool_:
        return np.asarray(values > 0.5)
    if not _is_integer(dtype):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    inside = np.clip(np.rint(values), limits.min, limits.max).astype(object)  # object: float64 cannot hold 2^63 - 1
    return np.array([min(int(x), limits.max) for x in inside], dtype=dtype)


def _is_integer(dtype: DType) -> bool:
    return dtype.kind in "iu"
