"""Suggests the nearest keyword where a call has one that is not there."""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature, signature

__all__ = ["SuggestsKeywords", "keywords_of", "unknown_keyword", "unknown_name"]

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


class SuggestsKeywords(ABCMeta):
    """The metaclass of classes that people make with keywords. What is made is asked to `check_made()`, where it can.

    >>> class Pot(metaclass=SuggestsKeywords):
    ...     def __init__(self, *, colour="red"): ...
    >>> Pot(color="blue")
    Traceback (most recent call last):
    TypeError: Pot() has no keyword 'color'; did you mean 'colour'?
    """

    @property
    def __signature__(cls) -> Signature:  # that of __init__, which __call__ would hide
        whole = signature(cls.__init__)  # type: ignore[misc]  # whichever __init__ it is
        return whole.replace(parameters=[*whole.parameters.values()][1:])

    def __call__(cls, *args, **keywords):  # type: ignore[no-untyped-def]  # typed, it would hide the signature of __init__
        try:
            made = super().__call__(*args, **keywords)
        except TypeError as error:
            found = _UNEXPECTED.search(str(error))
            known = sorted({*keywords_of(cls)})
            if found is None or found[1] not in keywords or found[1] in known:  # somebody else's
                raise
            raise TypeError(unknown_keyword(cls.__name__, found[1], known)) from None
        if isinstance(getattr(cls, "facts", None), Mapping) and "facts" not in vars(made):
            made.facts = dict(made.facts)  # not the class's, which would be everybody's
        if hasattr(cls, "check_made"):
            made.check_made()
        return made


def unknown_keyword(name: str, keyword: str, known: list[str]) -> str:
    """What is wrong with this keyword of `name()`, and the nearest of those it has."""
    from difflib import get_close_matches

    close = get_close_matches(keyword, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
    return f"{name}() has no keyword {keyword!r}; {remedy}"


def unknown_name(module: str, name: str) -> str:
    """What is wrong with this name in this module, and where a public name like it is."""
    from difflib import get_close_matches
    from importlib import import_module

    text = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # asked for by tools
        return text
    places = {}
    for place in ("umbel.client", "umbel.common", "umbel.simulation", "umbel.server", "umbel.server.strategy"):
        places.update(dict.fromkeys(import_module(place).__all__, place))
    if name in places:
        return f"{text}; it is {places[name]}.{name}"
    near = {public.lower(): public for public in places}
    close = get_close_matches(name.lower(), near, n=1)
    if close:
        return f"{text}; did you mean {places[near[close[0]]]}.{near[close[0]]}?"
    here = import_module(module).__all__
    return f"{text}; it has {', '.join(public for public in here if not public.startswith('_'))}"


def keywords_of(cls: type) -> Iterator[str]:
    """The keywords of its `__init__`, and of those of its parents to which it passes others on."""
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = [*signature(vars(parent)["__init__"]).parameters.values()][1:]
        yield from (p.name for p in parameters if p.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD))
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            return
