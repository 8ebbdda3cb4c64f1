"""Updates as differences to what the client was given: the first link of every chain."""

from __future__ import annotations

import numpy as np

from umbel.errors import Rejected
from umbel.params import NDArray, NDArrays
from umbel.transforms.base import BLOCK, Arrival, Reader, Site, Transform, register
from umbel.update import DIFFERENCE, MODEL, Layout, Update
from umbel.wire import Schema, dtype_of, largest_of

__all__ = ["differences", "floats_of"]


@register
def differences() -> Transform:
    """Updates travel as update − version, and the server adds the version again.

    A floating tensor's difference is computed in float64 and travels in the model's dtype; integers and booleans travel as
    they are. Every chain begins with it, so there is no need to name it. Alone it changes a model's bits by no more than
    rounding does.

    The kinds of numbers stay those of the model: answers of float64 to a model of float32 are rounded, and answers that a
    tensor could not hold are refused, with the remedy.
    """
    return Transform("differences", layout=_layout, encode=_encode, decode=_decode)


def _layout(layout: Layout) -> Layout:
    return layout.replaced(MODEL, {DIFFERENCE: layout[MODEL]})


def _encode(update: Update, base: NDArrays, site: Site) -> Update:
    arrays = update.parts[MODEL]
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is noticed as such
        made = [_difference(i, array, old) for i, (array, old) in enumerate(zip(arrays, base, strict=True))]
    others = {part: found for part, found in update.parts.items() if part != MODEL}
    return update._replace(parts={DIFFERENCE: made, **others})


def _difference(position: int, array: NDArray, old: NDArray) -> NDArray:
    floats, given = old.dtype.kind in "fV", array.dtype.kind in "fV"
    if (given and not floats) or (given and old.dtype.itemsize < min(array.dtype.itemsize, 4)):
        raise Rejected(
            f"fit() returned array {position} as {array.dtype}, the model has {old.dtype} there, and with a transform the "
            f"kinds of numbers stay. Return {old.dtype}, or begin with parameters of {array.dtype}"
        )
    if not floats:
        kept = array.astype(old.dtype)
        if old.dtype != np.bool_ and not np.array_equal(kept, array):
            raise Rejected(f"fit() returned array {position} with numbers that the model's {old.dtype} cannot hold")
        return kept
    made = np.empty(old.shape, old.dtype)
    ours, theirs, flat = array.reshape(-1), old.reshape(-1), made.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        values = ours[block].astype(np.float64)
        flat[block] = values - theirs[block].astype(np.float64)
        finite = np.isfinite(flat[block])
        if not finite.all():
            odd = values[~finite][0]
            raise Rejected(
                f"array {position} contains {odd:g}; only finite values, whose differences {old.dtype} can hold, travel. "
                "Check the data and the learning rate."
            )
    return made


def _decode(reader: Reader, arrival: Arrival) -> Reader:
    """Base + difference, computed in float64, as values of the model's dtypes that are finite whatever has come."""
    layout, base = arrival.layout, arrival.base
    schema = layout[MODEL]

    def read(part: str, position: int, start: int, size: int) -> NDArray:
        if part != MODEL:
            return reader.read(part, position, start, size)
        difference = reader.read(DIFFERENCE, position, start, size)
        dtype = dtype_of(schema.specs[position].dtype)
        if not schema.specs[position].is_float:
            return difference.astype(dtype, copy=False)
        old = base.read(MODEL, position, start, size).astype(np.float64)
        values = old + difference.astype(np.float64)
        largest = largest_of(dtype)
        if not np.isfinite(np.add.reduce(values)):  # nearly never
            values = np.where(np.isnan(values), old, values)
        return values.clip(-largest, largest, out=values).astype(dtype)

    return Reader(layout, read)


def floats_of(schema: Schema) -> list[int]:
    """The positions of the floating tensors."""
    return [position for position, spec in enumerate(schema.specs) if spec.is_float]
