"""What is said about the dtypes of a model and of its answers, in words. Knows schemas, no values and no run."""

from __future__ import annotations

from collections.abc import Iterable

from umbel.fold import is_wider
from umbel.remarks import Remark, remark
from umbel.wire import Schema, dtype_of, shorten

__all__ = ["describe_widened", "is_rounded", "remark_rounding"]

_ROUNDED = Remark(
    ("float64 is rounded",),
    "clients answer with float64, and the model is float32: what they answer is rounded to it, here and from now on. To "
    "keep float64, begin with parameters of float64",
)


def describe_widened(before: Schema, after: Schema) -> str:
    """Says which tensors have become of a wider kind, which happens once to each; "" where none has."""
    if before.specs == after.specs:  # nearly always
        return ""
    named: dict[str, list[str]] = {}
    for old, new in zip(before.specs, after.specs, strict=False):
        if is_wider(new.dtype, old.dtype):
            what = f"{dtype_of(old.dtype)} with longer floats" if old.is_float else "their integers with floats"
            named.setdefault(f"{dtype_of(new.dtype)} from now on, because clients answered {what}", []).append(new.name)
    return "; ".join(f"{text}: {shorten([*map(repr, names)])}" for text, names in named.items())


def remark_rounding() -> None:
    """Remarks that answers of float64 are rounded to the float32 of the model."""
    remark(_ROUNDED)


def is_rounded(answers: Iterable[Schema], model: Schema) -> bool:
    """Whether one of these answers is rounded to the float32 of the model."""
    return any(_is_rounded(answer, model) for answer in answers if answer.specs != model.specs)  # nearly always alike


def _is_rounded(answer: Schema, model: Schema) -> bool:
    pairs = zip(answer.specs, model.specs, strict=False)
    return any(ours.dtype == "F64" and theirs.dtype == "F32" for ours, theirs in pairs)
