"""Calls with a keyword that is not there are told which one may have been meant."""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import Iterator

__all__ = ["Spelled"]

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


class Spelled(ABCMeta):
    """The metaclass of classes that people make with keywords.

    >>> class Pot(metaclass=Spelled):
    ...     def __init__(self, *, colour="red"): ...
    >>> Pot(color="blue")
    Traceback (most recent call last):
    TypeError: Pot() has no keyword 'color'; did you mean 'colour'?
    """

    def __call__(cls, *args, **keywords):  # type: ignore[no-untyped-def]  # typed, it would hide the signature of __init__
        try:
            return super().__call__(*args, **keywords)
        except TypeError as error:
            found = _UNEXPECTED.search(str(error))
            known = sorted({*_keywords(cls)})
            if found is None or found[1] not in keywords or found[1] in known:  # somebody else's
                raise
            raise TypeError(_said(cls.__name__, found[1], known)) from error


def _said(name: str, keyword: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(keyword, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
    return f"{name}() has no keyword {keyword!r}; {remedy}"


def _keywords(cls: type) -> Iterator[str]:
    """The keywords of its `__init__`, and of those of its parents to which it passes others on."""
    from inspect import Parameter, signature

    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = [*signature(vars(parent)["__init__"]).parameters.values()][1:]
        yield from (p.name for p in parameters if p.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD))
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            return
