"""A form: what one keyword may be given, said and read. Knows no kind of value."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

__all__ = ["Form", "Wrong", "anything", "either", "shown"]


class Wrong(Exception):
    """A value that a form does not take; `family` is the error for it, and the text says more than the form does."""

    def __init__(self, family: type[TypeError] | type[ValueError], remark: str = "") -> None:
        super().__init__(remark)
        self.family = family


class Form(NamedTuple):
    """A right value: `says` completes "it is …", and `read` gives it as a plain one or raises `Wrong`.

    `none` says what None stands for; "" refuses None. `such_as` is a right value as people write it.
    """

    says: str
    read: Callable[[object], object]
    such_as: str = ""
    none: str = ""

    def or_none(self, meaning: str) -> Form:
        """The same, and None."""
        return self._replace(none=meaning)

    def check(self, name: str, value: object) -> object:
        """`value` as a plain one. Raises `TypeError` and `ValueError`, which name the keyword, the value and the form.

        >>> from umbel.forms import whole
        >>> whole(1, of="of rounds").check("num_rounds", "3")
        Traceback (most recent call last):
        TypeError: num_rounds='3'; it is a whole number of rounds, 1 or more: write num_rounds=3, without quotes
        """
        if value is None and self.none:
            return None
        try:
            return self.read(value)
        except Wrong as wrong:
            says = f"{self.says}, or None for {self.none}" if self.none else self.says
            remedy = str(wrong).replace("{name}", name) or (f"write {name}={self.such_as}" if self.such_as else "")
            raise wrong.family(f"{name}={shown(value)}; it is {says}{remedy and f': {remedy}'}") from None


def either(one: Form, other: Form) -> Form:
    """What one of two forms takes. Where both refuse a value, the first says why.

    >>> from umbel.forms import text, whole
    >>> either(whole(1), text("a name")).check("clients", "north")
    'north'
    """

    def read(value: object) -> object:
        try:
            return one.read(value)
        except Wrong as wrong:
            try:
                return other.read(value)
            except Wrong:
                raise wrong from None

    return Form(f"{one.says}, or {other.says}", read, one.such_as)


def anything() -> Form:
    """For keywords that mean nothing here."""
    return Form("anything", lambda value: value, none="nothing")


def shown(value: object) -> str:
    """A value in an error: short, whatever its own code says."""
    try:
        said = value.__name__ if isinstance(value, (type, FunctionType)) else repr(value)
    except Exception:  # its __repr__ is user code
        said = f"<{type(value).__name__}>"
    said = " ".join(said.split())
    return said if len(said) <= 80 else f"{said[:77]}…"
