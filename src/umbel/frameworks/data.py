"""Whose data a function is given, and how many examples they have. Knows no framework: data are known by what they have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sized
from inspect import Parameter

from umbel.context import Context

__all__ = ["check_data", "count_examples", "make_data", "makes_data", "number_of", "share_of"]


def makes_data(data: object) -> bool:
    """Whether this is a function that gives data, and not the data."""
    return isinstance(data, type) or (callable(data) and not hasattr(data, "__len__") and not hasattr(data, "__iter__"))


def check_data(data: object) -> None:
    """Raises `TypeError` for a function that wants more than a number, or a context."""
    if not makes_data(data):
        return
    try:
        parameters = [*inspect.signature(data).parameters.values()]  # type: ignore[arg-type]  # it is a function
    except ValueError:  # built in, without a signature
        return
    anything = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    more = [p.name for p in parameters[1:] if p.default is Parameter.empty and p.kind not in anything]
    if more:
        name, first = getattr(data, "__name__", type(data).__name__), parameters[0].name
        raise TypeError(
            f"data={name} takes {', '.join(map(repr, more))} beside {first!r}, and is given the client's number or context "
            "alone: give a default, or a function of one argument"
        )


def make_data(function: object, context: Context) -> object:
    """What a function gives for the context, where it asks for that by name or type, else for the client's number."""
    assert callable(function)
    call: Callable[..., object] = function
    first = next(iter(inspect.signature(call).parameters.values()), None)
    if first is None:
        return call()
    if first.name == "context" or first.annotation in (Context, "Context") or str(first.annotation).endswith(".Context"):
        return call(context)
    return call(number_of(context))


def number_of(context: Context) -> int:
    """The client's number in a simulation, or where its name is one. Raises `ValueError` for others."""
    number = context.node_config.get("partition-id", context.node_id)
    if isinstance(number, int) or (isinstance(number, str) and number.isdecimal()):
        return int(number)
    raise ValueError(
        f"client {context.node_id!r} has no number: start it with a client_id that is one, such as client_id='3', or let "
        "the function take the context"
    )


def share_of(data: object, name: str) -> object:
    """What `train` or `test` is given, as `name` says: its own where data are a mapping with "train". Raises `TypeError`."""
    if not isinstance(data, Mapping) or "train" not in data:
        return data
    if name not in data:
        raise TypeError(f"data have no {name!r}, and {name}= was given; they have {', '.join(map(repr, data))}")
    return data[name]


def count_examples(data: object) -> int | None:
    """The number of examples in a loader with a `dataset`, in a data set, a table, an array, or arrays side by side.

    None where it cannot be told: generators, and lists of batches.

    >>> import numpy as np
    >>> count_examples((np.zeros((5, 2)), np.zeros(5))), count_examples({"x": np.zeros((5, 2))}), count_examples(iter("ab"))
    (5, 5, None)
    """
    dataset = getattr(data, "dataset", None)
    if dataset is not None and not isinstance(data, type):
        return count_examples(dataset)
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple):
        return int(shape[0]) if shape and isinstance(shape[0], int) else None
    tensors = getattr(data, "tensors", None)  # of a TensorDataset
    if isinstance(data, Mapping):
        return _side_by_side([*data.values()])
    if isinstance(data, (tuple, list)):
        return _in_list(data)
    if isinstance(tensors, (tuple, list)):
        return _side_by_side([*tensors])
    if isinstance(data, Sized) and not isinstance(data, (str, bytes)):
        try:
            return len(data)
        except TypeError:  # a loader of a stream
            return None
    return None


def _in_list(data: tuple[object, ...] | list[object]) -> int | None:
    if data and all(_rows(part) is not None for part in data):
        return _side_by_side([*data])  # arrays: images and labels
    if isinstance(data, tuple) and data and all(isinstance(part, list) for part in data):
        return _side_by_side([*data])  # (texts, labels)
    first = data[0] if data else None
    parts = [*first.values()] if isinstance(first, Mapping) else first if isinstance(first, (tuple, list)) else ()
    rows = [_rows(part) for part in parts]
    if rows and None not in rows and len(set(rows)) == 1:
        return None  # batches, or sequences with a label at each place: one cannot tell
    return len(data) if isinstance(data, list) else None


def _side_by_side(parts: list[object]) -> int | None:
    """The length that all of them have, in their first dimension."""
    lengths = {len(part) if isinstance(part, list) else -1 if (rows := _rows(part)) is None else rows for part in parts}
    found = lengths.pop() if len(lengths) == 1 else -1
    return found if found >= 0 else None


def _rows(part: object) -> int | None:
    shape = getattr(part, "shape", None)
    if shape is None or isinstance(part, type):
        return None
    return int(shape[0]) if len(shape) else None
