"""How what has been added up lies in tensors: one content that may travel and be merged elsewhere. Nothing is pickled.

Knows arrays and plain numbers; knows no updates and no sums. The arrays of all accumulators that have one name and one dtype
are one tensor, "values/F64" say, one after another; the tensor "about" says as JSON which part of it is whose, and has the
numbers. So the sum of a model of 10,000 tensors has a header as short as that of one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from umbel.errors import WireError
from umbel.params import DType, NDArray, Params
from umbel.wire import Schema, TensorSpec, dtype_of, tag_of

__all__ = ["PLAIN", "Wire", "Written", "pack", "unpack"]

Written = tuple[Mapping[str, NDArray], Mapping[str, Any]]
_ABOUT = "about"


class Wire(NamedTuple):
    """How an aggregator's accumulator lies in tensors.

    - `write(acc)` → its arrays by name, of dtypes that travel, and the rest by name: numbers (integers of any size), text,
      None, and lists of them
    - `read(dtype, arrays, rest)` → the accumulator; `dtype` is what `init` was given, and the arrays may be written to
    """

    write: Callable[[Any], Written]
    read: Callable[[DType, Mapping[str, NDArray], Mapping[str, Any]], Any]


def _write_plain(acc: object) -> Written:
    kind, values = "alone", {"": acc}
    if type(acc) is dict:
        kind, values = "dict", acc
    elif type(acc) is tuple:  # what is derived from it would come back as something else
        kind, values = "tuple", {str(i): value for i, value in enumerate(acc)}
    arrays = {name: np.asarray(value) for name, value in values.items() if isinstance(value, (np.ndarray, np.generic))}
    rest = {name: value for name, value in values.items() if name not in arrays}
    for name, value in rest.items():
        if not isinstance(name, str) or not isinstance(value, (int, float, str, type(None))):
            found = type(value).__name__
            raise TypeError(f"an accumulator has a {found}; wire=Wire(write, read) of the aggregator says how it travels")
    return arrays, {"kind": kind, "names": [*values], "rest": rest}


def _read_plain(_: DType, arrays: Mapping[str, NDArray], rest: Mapping[str, Any]) -> Any:
    values = {name: arrays[name] if name in arrays else rest["rest"][name] for name in rest["names"]}
    match rest["kind"]:
        case "dict":
            return values
        case "tuple":
            return tuple(values.values())
        case _:
            return values[""]


PLAIN = Wire(_write_plain, _read_plain)  # accumulators that are an array or a number, or a tuple or dict of them


def pack(accumulators: Sequence[Written], about: Mapping[str, Any]) -> tuple[Schema, Iterator[memoryview]]:
    """Accumulators, and what is to be known about all of them, as one content: its schema and its data bytes.

    Nothing is copied: the views are of the arrays' memory. Raises `WireError` for a dtype that cannot travel.

    >>> schema, data = pack([({"sum": np.ones(2)}, {"weight": 3}), ({"sum": np.zeros(1)}, {"weight": 3})], {"updates": 1})
    >>> [(spec.name, spec.dtype) for spec in schema.specs], schema.specs[0].shape
    ([('sum/F64', 'F64'), ('about', 'U8')], (3,))
    """
    tensors: dict[str, list[NDArray]] = {}
    lies = []
    for arrays, rest in accumulators:
        where: dict[str, list[Any]] = {}
        for name, array in arrays.items():
            tag = tag_of(array.dtype)
            tensors.setdefault(f"{name}/{tag}", []).append(np.ascontiguousarray(array, dtype_of(tag)).reshape(-1))
            where[name] = [tag, *array.shape]
        lies.append([where, rest])
    text = json.dumps([about, lies], separators=(",", ":"), default=_plain).encode()
    text = text.ljust(1 << max(len(text) - 1, 255).bit_length())  # so that the sums of a round have one header
    tensors[_ABOUT] = [np.frombuffer(text, np.uint8)]
    specs = [TensorSpec(name, tag_of(rows[0].dtype), (sum(map(len, rows)),)) for name, rows in tensors.items()]
    schema, parts = Schema(tuple(specs)), [*tensors.values()]
    return schema, (row.view(np.uint8).data for position in schema.layout for row in parts[position])


def unpack(params: Params) -> tuple[list[Written], Mapping[str, Any]]:
    """What `pack` was given; the arrays are views of `params`. Raises `WireError` where that is something else.

    >>> schema, data = pack([({"sum": np.ones(2)}, {"weight": 3})], {"updates": 1})
    >>> ((arrays, rest),), about = unpack(Params(schema, np.frombuffer(b"".join(data), np.uint8)))
    >>> arrays["sum"].tolist(), rest, about
    ([1.0, 1.0], {'weight': 3}, {'updates': 1})
    """
    tensors = dict(zip(params.schema.names, params.arrays(), strict=True))
    taken = dict.fromkeys(tensors, 0)
    accumulators: list[Written] = []
    try:
        about, lies = json.loads(bytes(tensors.pop(_ABOUT)))
        for where, rest in lies:
            arrays = {}
            for name, (tag, *shape) in where.items():
                key = f"{name}/{tag}"
                end = taken[key] + math.prod(shape)
                arrays[name] = tensors[key][taken[key] : end].reshape(shape)
                taken[key] = end
            accumulators.append((arrays, rest))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"this is no sum of updates: {type(error).__name__}: {error}") from None
    if any(taken[name] != len(tensor) for name, tensor in tensors.items()):
        raise WireError("this is no sum of updates: it has more numbers than it says")
    return accumulators, about


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot travel beside an accumulator's arrays; numbers, text and lists can")
