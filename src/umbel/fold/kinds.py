"""Of which kinds of numbers the next version is: the model's, or wider ones where clients have answered with wider ones.

Knows names, dtypes and shapes; knows no values.
"""

from __future__ import annotations

from collections.abc import Sequence

from umbel.wire import Schema, dtype_of

__all__ = ["is_wider", "stepped_schema", "wider_kind"]


def stepped_schema(model: Schema | None, updates: Sequence[Schema]) -> Schema:
    """The schema of the next version: the model's, but of a wider kind where one of the updates is.

    Integers and booleans that are answered with floats become F64, and floats of 16 or 8 bits that are answered with longer
    ones become F32: otherwise steps below their precision would never move them. F32 stays; F64 answers are rounded to it.
    `updates` are those that count: a client that has not trained sends back what it was given. Without a model it is the
    first update's.
    """
    if model is None:
        return updates[0]
    different = [update for update in updates if update.specs != model.specs]
    if not different:  # nearly always
        return model
    specs = list(model.specs)
    for update in different:
        for i, (answer, spec) in enumerate(zip(update.specs, model.specs, strict=True)):
            if is_wider(answer.dtype, spec.dtype):
                specs[i] = spec._replace(dtype=wider_kind(spec.dtype))
    return Schema(tuple(specs))


def is_wider(answer: str, dtype: str) -> bool:
    """Whether a tensor of `dtype` cannot go where an answer of the dtype `answer` says.

    >>> is_wider("F32", "I64"), is_wider("F32", "BF16"), is_wider("F64", "F32"), is_wider("I64", "F16")
    (True, True, False, False)
    """
    floats = dtype_of(answer).kind in "fV"
    if dtype_of(dtype).kind not in "fV":
        return floats
    return floats and dtype_of(dtype).itemsize < min(dtype_of(answer).itemsize, 4)


def wider_kind(dtype: str) -> str:
    """What a tensor of this dtype becomes that is answered with something wider."""
    return "F32" if dtype_of(dtype).kind in "fV" else "F64"
