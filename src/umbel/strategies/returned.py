"""Parameters that the owner's own code has returned, checked where it returned them.

Otherwise the clients would be blamed one round later for what they were sent. Knows schemas and the classic `Parameters`;
knows no run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from umbel.dialogue import Parameters
from umbel.errors import StrategyError, WireError
from umbel.fold import all_finite
from umbel.named import are_numbers
from umbel.params import NDArray
from umbel.wire import Schema, TensorSpec, short

__all__ = ["check_parameters"]


def check_parameters(method: str, given: object, model: Schema | None = None) -> Parameters:
    """The parameters that `method` returned, as they may be written.

    Their values must be finite; with `model` there must be as many arrays as it has, of the same shapes, and they get its
    names where they have none of their own. A model without arrays may become anything. What Umbel has combined is the
    recipe as it is: it checks itself block by block.

    Raises `StrategyError` naming method, array, shape and value: here, or for a value where the blocks are read.
    """
    if not isinstance(given, Parameters):
        raise StrategyError(
            f"{method}() returned a {type(given).__name__} for parameters; return Parameters, such as "
            "ndarrays_to_parameters(arrays)"
        )
    if given.is_recipe:
        return given
    try:
        if model is not None:
            given = given.named_as(model)
        schema, _ = given.stream()
    except WireError as error:
        raise StrategyError(f"{method}() returned parameters that cannot travel: {error}") from None
    if model is not None and len(model):
        schema = _like(method, schema, model)
    return Parameters.lazy(schema, partial(_finite, method, schema, given))


def _like(method: str, schema: Schema, model: Schema) -> Schema:
    """The schema with the model's names. Raises `StrategyError` where it is another model's."""
    if len(schema) != len(model):
        raise StrategyError(
            f"{method}() returned {len(schema) or 'no'} arrays, the model has {len(model)}{_first_odd(schema, model)}. "
            "Return every array, or None to keep the model; a strategy whose model changes its form says so by "
            'receives = "anything"'
        )
    for position, (got, want) in enumerate(zip(schema.specs, model.specs, strict=True)):
        bytes_too = position in schema.blobs and position in model.blobs  # a booster is as long as it is
        if got.shape != want.shape and not bytes_too:
            raise StrategyError(
                f"{method}() returned array {position} with shape {short(got.shape)}, the model has {short(want.shape)} "
                f"there ({short(want.name)}). Return every array, in its place and with its own shape; a strategy whose "
                'model changes its form says so by receives = "anything"'
            )
        if got.name != want.name and not are_numbers(schema.names) and not bytes_too:
            raise StrategyError(
                f"{method}() returned {short(got.name)} as array {position}, where the model has {short(want.name)}"
            )
    names = (got.name if position in schema.blobs else want.name for position, (got, want) in _pairs(schema, model))
    return Schema(tuple(TensorSpec(name, *spec[1:]) for name, spec in zip(names, schema.specs, strict=True)))


def _pairs(schema: Schema, model: Schema) -> Iterable[tuple[int, tuple[TensorSpec, TensorSpec]]]:
    return enumerate(zip(schema.specs, model.specs, strict=True))


def _first_odd(schema: Schema, model: Schema) -> str:
    for position, (got, want) in enumerate(zip(schema.specs, model.specs, strict=False)):
        if got.shape != want.shape:
            return f"; array {position} has shape {short(got.shape)} where {short(want.name)}, shape {want.shape}, belongs"
    if len(schema) < len(model):
        missing = model.specs[len(schema)]
        return f"; missing {short(missing.name)}, shape {missing.shape}"
    return f"; array {len(model)} of shape {short(schema.specs[len(model)].shape)} is one too many"


def _finite(method: str, schema: Schema, given: Parameters) -> Iterator[memoryview]:
    """The data bytes of the parameters, which are finite as far as they have been taken."""
    at = 0
    for block in given.stream()[1]:
        for position, values in _tensors_in(schema, at, block):
            if not all_finite(values):
                value = float(values[~np.isfinite(values)][0])
                spec = schema.specs[position]
                named = "" if are_numbers(schema.names) else f" ({short(spec.name)})"
                raise StrategyError(
                    f"{method}() returned {value} in array {position}{named}, shape {spec.shape}; a model of finite numbers "
                    "is needed. Look for a division by 0, an overflow, or an update that is not finite"
                )
        yield block
        at += len(block)


def _tensors_in(schema: Schema, at: int, block: memoryview) -> Iterator[tuple[int, NDArray]]:
    """The parts of floating tensors that lie in the data bytes from `at` on."""
    layout, places = schema.layout, schema.places
    first = bisect_right(layout, at, key=lambda position: places[position][0]) - 1  # a block may be one of 10,000 tensors
    for index in range(max(first, 0), len(layout)):
        position = layout[index]
        begin, end, dtype, _ = places[position]
        if begin >= at + len(block):
            return
        low, high = max(begin, at), min(end, at + len(block))
        if low < high and schema.specs[position].is_float:
            yield position, np.frombuffer(block[low - at : high - at], dtype)
