"""Strategies by their names, "fedavg" or "krum", with their keywords. Knows which there are; knows no rounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, signature

from umbel.server import strategy as strategies
from umbel.strategies.base import Strategy
from umbel.suggest import keywords_of

__all__ = ["strategy_keywords", "strategy_named", "strategy_names"]


def strategy_names() -> dict[str, type[Strategy]]:
    """Every strategy that can be made of keywords, by its name in small letters; those around another one are left out.

    >>> strategy_names()["fedavg"].__name__, "bucketing" in strategy_names()
    ('FedAvg', False)
    """
    classes = [getattr(strategies, name) for name in strategies.__all__ if name != "Strategy"]
    return {cls.__name__.lower(): cls for cls in classes if "strategy" not in keywords_of(cls)}


def strategy_keywords(name: str) -> frozenset[str]:
    """What the strategy of this name takes. Raises `ValueError` for a name that there is not."""
    return frozenset(keywords_of(_find_class(name)))


def strategy_named(name: str, keywords: Mapping[str, object]) -> Strategy:
    """The strategy of this name; capitals, hyphens and underscores do not matter.

    Raises `ValueError` for a name that there is not, with the nearest, and `TypeError` for a keyword that it needs.

    >>> strategy_named("Fed-Prox", {"proximal_mu": 0.1}).proximal_mu
    0.1
    """
    cls = _find_class(name)
    for needed in signature(cls).parameters.values():
        named = needed.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        if named and needed.default is Parameter.empty and needed.name not in keywords:
            raise TypeError(f"strategy={name!r} needs {needed.name}=: write strategy={name!r}, {needed.name}=…")
    return cls(**keywords)


def _find_class(name: str) -> type[Strategy]:
    known = strategy_names()
    plain = re.sub(r"[\W_]", "", name).lower()
    if plain not in known:
        close = get_close_matches(plain, known, n=1)
        remedy = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"strategy={name!r}; {remedy}There are {', '.join(sorted(known))}, and every strategy as an object")
    return known[plain]
