"""Numbers, texts, paths, and what holds several of them. Knows no class and no function."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real

from umbel.forms.form import Form, Wrong

__all__ = ["flag", "mapping", "names", "one_of", "path", "pem", "real", "some_of", "text", "whole"]

LARGEST = 2**63 - 1  # what a journal and a database keep as an integer


def whole(least: int | None, *, of: str = "") -> Form:
    """A whole number of at least `least`, None for any, Python's or numpy's; no bool, and no 3.0."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise Wrong(TypeError, _unquoted(value, int) or _rounded(value))
        number = int(value)
        if least is not None and not least <= number <= LARGEST:
            raise Wrong(ValueError, f"{LARGEST:,} is the most" if number > LARGEST else "")
        return number

    return Form(f"a whole number{of and f' {of}'}{'' if least is None else f', {least} or more'}", read)


def real(
    says: str, *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf
) -> Form:
    """A finite number within these limits, Python's or numpy's; no bool."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise Wrong(TypeError, _unquoted(value, float))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not least <= number <= most or not above < number < below:
            raise Wrong(ValueError)
        return int(value) if isinstance(value, Integral) else number

    return Form(says, read)


def flag() -> Form:
    """True or False, numpy's as well; 1 and 0 will do."""

    def read(value: object) -> bool:
        if type(value).__name__ in ("bool", "bool_") or (isinstance(value, Integral) and value in (0, 1)):
            return bool(value)
        raise Wrong(TypeError)

    return Form("True or False", read)


def text(says: str, such_as: str = "") -> Form:
    """A str that is not empty."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(TypeError)
        if not value:
            raise Wrong(ValueError)
        return str(value)

    return Form(says, read, such_as)


def one_of(*choices: str) -> Form:
    """One of these words."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(TypeError)
        if value not in choices:
            raise Wrong(ValueError, _nearest(value, choices))
        return value

    listed = ", ".join(map(repr, choices))
    return Form(f"one of {listed}", read)


def some_of(*choices: str) -> Form:
    """One of these words, or a list of them; as a tuple, each once."""
    one = one_of(*choices)

    def read(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            return (one.read(value),)
        if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
            raise Wrong(TypeError)
        return tuple(dict.fromkeys(one.read(each) for each in value))

    return Form(f"{one.says}, or a list of them", read)


def path(says: str, such_as: str) -> Form:
    """A str or a `Path`."""

    def read(value: object) -> object:
        if not isinstance(value, (str, os.PathLike)):
            raise Wrong(TypeError)
        return value

    return Form(says, read, such_as)


def pem(*parts: str) -> Form:
    """PEM as bytes or text, or the path of such a file; of several parts, a tuple with each."""
    written = ", ".join(f"{part.replace(' ', '_')}.pem" for part in parts)
    such_as = f"({', '.join(repr(one) for one in written.split(', '))})" if len(parts) > 1 else repr(written)
    says = f"a tuple of {len(parts)}: {', '.join(parts)}" if len(parts) > 1 else parts[0]

    def read(value: object) -> object:
        if len(parts) > 1 and not isinstance(value, (tuple, list)):
            raise Wrong(TypeError)
        several = tuple(value) if len(parts) > 1 else (value,)  # type: ignore[arg-type]  # a tuple or a list
        if len(several) != len(parts):
            raise Wrong(ValueError)
        if not all(isinstance(one, (bytes, str, os.PathLike)) for one in several):
            raise Wrong(TypeError)
        return several if len(parts) > 1 else value

    return Form(f"{says}, PEM as bytes or text, or paths", read, such_as)


def mapping(says: str, such_as: str) -> Form:
    """A dict, or something like it."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Wrong(TypeError)
        return value

    return Form(says, read, such_as)


def names(says: str, such_as: str, *, one: bool = False) -> Form:
    """Several things in an order, as a tuple; where `one` may stand alone, also a text."""

    def read(value: object) -> object:
        if one and isinstance(value, str):
            return value
        if isinstance(value, (str, bytes)):
            raise Wrong(TypeError, "this is one text")
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise Wrong(TypeError)
        try:
            return tuple(value)
        except TypeError:  # an array without dimensions looks as if it could be iterated
            raise Wrong(TypeError) from None

    return Form(says, read, such_as)


def _nearest(value: str, choices: Iterable[str]) -> str:
    near = get_close_matches(value, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _unquoted(value: object, kind: type[int] | type[float]) -> str:
    """The remedy for a number that came as a text."""
    if not isinstance(value, str):
        return ""
    try:
        number = kind(value)
    except ValueError:
        return ""
    return f"write {{name}}={number!r}, without quotes"


def _rounded(value: object) -> str:
    """The remedy for 3.0, which divisions leave."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        return ""
    return f"write {{name}}={float(value):.0f}, or int(…) around it"
