"""What people give to a partitioner, checked at the door: numbers that are what they must be, or a DataError."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from umbel import forms
from umbel.errors import DataError

__all__ = ["between", "count", "counts", "flag", "names", "numbers", "one_of", "seed_of", "whole"]

Choice = TypeVar("Choice", bound=StrEnum)


def whole(number: object) -> int | None:
    """An int of Python's or numpy's as an int; None for anything else, bool and 3.0 included."""
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        return None
    try:
        return operator.index(number)
    except TypeError:  # an array has __index__ too, and only one of a single integer can use it
        return None


def count(name: str, value: object, *, least: int = 1, of: str) -> int:
    """`value` as an int from `least` up, or DataError.

    >>> count("num_partitions", 3, of="how many clients share the data")
    3
    """
    number = whole(value)
    if number is None or number < least:
        raise DataError(f"{name} is {value!r}, and must be a whole number from {least} up: {of}.")
    return number


def counts(name: str, values: object, *, least: int, of: str) -> list[int]:
    """At least one whole number from `least` up, or DataError."""
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)) or len(values) == 0:
        raise DataError(f"{name} is {values!r}, and must be a list of whole numbers: {of}.")
    return [count(f"{name}[{place}]", value, least=least, of=of) for place, value in enumerate(values)]


def numbers(name: str, value: object, *, of: str) -> npt.NDArray[np.float64]:
    """`value` as an array that nobody else can change, or DataError."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:  # no numbers, or rows of different lengths
        raise DataError(f"{name} is {value!r}, and must be {of}.") from error


def between(name: str, value: object, low: float, high: float, *, of: str) -> float:
    """`value` as a float within `low` … `high`, both included, or DataError."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    limits = f"from {low:g} up" if math.isinf(high) else f"from {low:g} to {high:g}"
    raise DataError(f"{name} is {value!r}, and must be a number {limits}: {of}.")


def flag(name: str, value: object) -> bool:
    """`value` as a bool, numpy's and 1 and 0 too, or DataError.

    >>> flag("shuffle", 1)
    True
    """
    try:
        return bool(forms.flag().check(name, value))
    except TypeError as error:
        raise DataError(str(error)) from None


def seed_of(value: object) -> int:
    """A seed, or DataError: every client must use the same one, so None will not do."""
    number = whole(value)
    if number is None:
        raise DataError(f"seed is {value!r}, and must be a whole number: clients whose partitions differ would share rows.")
    return number


def one_of(name: str, choices: type[Choice], value: object) -> Choice:
    """The member of `choices` that people call `value`, or DataError."""
    for choice in choices:
        if value == choice.value:
            return choice
    raise DataError(f"{name} is {value!r}, and must be one of {', '.join(repr(choice.value) for choice in choices)}.")


def names(name: str, value: object) -> list[str]:
    """None, a name, or a list of names, as a list of names; or DataError."""
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) for one in listed):
        raise DataError(f"{name} is {value!r}, and must be the name of a column, or a list of names.")
    return list(listed)
