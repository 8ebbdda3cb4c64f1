"""Metrics, properties and configs: plain scalars by name, as they travel. Knows no tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from umbel.errors import WireError
from umbel.wire import short

__all__ = ["Config", "Metrics", "MetricsAggregationFn", "Properties", "Scalar", "as_text", "plain_scalar", "scalars"]

Scalar = bool | bytes | float | int | str
Config = dict[str, Scalar]
Metrics = dict[str, Scalar]
Properties = dict[str, Scalar]
MetricsAggregationFn = Callable[[list[tuple[int, Metrics]]], Metrics]


_PLAIN = frozenset({bool, bytes, float})  # whatever the value is, it can travel
_EXACT: dict[type, Callable[[Any], object]] = {
    bool: bool,
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,  # str() asks the class
    bytes: lambda value: b"".join([value]),
}


def scalars(values: Mapping[str, object]) -> dict[str, Scalar]:
    """Metrics, properties or a config as plain Python scalars. Raises `WireError` naming what cannot travel.

    >>> scalars({"accuracy": np.float32(0.5), "site": "A"})
    {'accuracy': 0.5, 'site': 'A'}
    """
    if type(values) is not dict and not isinstance(values, Mapping):
        raise WireError(f"a dict is needed, {{}} for none; got {type(values).__name__}")
    plain: dict[str, Scalar] = {}
    for name, value in values.items():
        if type(value) in _PLAIN and type(name) is str and name.isascii():  # nearly always
            plain[name] = value  # type: ignore[assignment]  # one of _PLAIN
            continue
        scalar = plain_scalar(value)
        if not isinstance(name, str) or not isinstance(scalar, (bool, bytes, float, int, str)):
            raise WireError(
                f"{short(name)} is of type {type(value).__name__}; names are str, "
                "values are bool, bytes, float, int or str (numpy scalars too)"
            )
        if isinstance(scalar, int) and not -(2**63) <= scalar < 2**64:
            raise WireError(f"{short(name)} = {short(scalar)} has more than 64 bits; send a float")
        for text in (name, scalar):
            if isinstance(text, str) and text != as_text(text):
                raise WireError(f"{short(text)} is not Unicode text; send bytes")
        plain[name] = scalar
    return plain


def as_text(value: object) -> str:
    """`str(value)` as text that can be written: a file name that is not Unicode shows as its escaped bytes.

    >>> as_text(b"caf\\xe9".decode("utf-8", "surrogateescape"))
    'caf\\\\udce9'
    """
    return str(value).encode("utf-8", "backslashreplace").decode()


def plain_scalar(value: object) -> object:
    """A numpy (or mlx, or torch) scalar as the Python number that it stands for; anything else as it is.

    What derives from a Python type, such as an `IntEnum`, becomes that type: others need not have its class.
    """
    if type(value) in _EXACT:
        return value
    for kind, exact in _EXACT.items():
        if isinstance(value, kind) and not isinstance(value, np.generic):
            return exact(value)
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value
