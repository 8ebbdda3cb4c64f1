"""What a client sends beside the model, taken as its task asks for it, or refused in words. Knows arrays and schemas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from umbel.errors import Rejected, WireError
from umbel.params import NamedArrays, NDArrays, as_arrays, named_as
from umbel.wire import Schema, short

__all__ = ["take_sent"]


def take_sent(sent: Mapping[str, object], wanted: Mapping[str, Schema]) -> dict[str, NDArrays]:
    """What a client has sent beside the model, in the dtypes that travel. Raises `Rejected` where that is not what the task
    asks for.
    """
    for part in sent:
        if part not in wanted:
            known = ", ".join(map(repr, wanted)) or "none"
            raise Rejected(
                f"context.send() was given the part {short(part)}; this task has {known} beside the model, as its "
                "strategy's parts= say"
            )
    taken = {}
    for part, schema in wanted.items():
        if part not in sent:
            raise Rejected(
                f"fit() sent no {part!r}, which this strategy needs beside the model. Call context.send({part!r}, arrays) "
                f"in it, with arrays like those of context.parts[{part!r}]"
            )
        try:
            arrays = named_as(as_arrays(sent[part]), schema.names)
        except WireError as error:
            raise Rejected(f"context.send() was given a part {part!r} that cannot travel: {error}") from None
        named = arrays if isinstance(arrays, NamedArrays) else NamedArrays(arrays)
        got = [(name, array.shape) for name, array in named.items()]
        want = [(spec.name, spec.shape) for spec in schema.specs]
        if got != want:
            shown, there = (", ".join(f"{short(name)} {shape}" for name, shape in each[:8]) for each in (got, want))
            raise Rejected(
                f"context.send() was given {part!r} with {len(got)} arrays ({shown}); context.parts[{part!r}] has "
                f"{len(want)} ({there}). Send as many, in their order or by name"
            )
        with np.errstate(over="ignore"):  # the door says what is too large
            kinds = [dtype for dtype, _ in schema.forms]
            taken[part] = [np.asarray(array, kind, order="C") for array, kind in zip(arrays, kinds, strict=True)]
    return taken
