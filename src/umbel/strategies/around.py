"""A strategy that is another one, but for one of its answers."""

from __future__ import annotations

from typing import Self

from umbel.keywords import ANOTHER_STRATEGY
from umbel.strategies.fedavg import FedAvg
from umbel.suggest import SuggestsKeywords

__all__ = ["Around"]


class Around(FedAvg):
    """Made from `strategy`, it is of a class that comes before the class of `strategy`: what a relative does not answer is
    answered there, an override of somebody's own as well, and `super()` in the relative is what `strategy` would answer.

    It has the attributes of `strategy` as they are now, so a relative's `__init__` adds its own and calls no other.
    """

    def __new__(cls, strategy: FedAvg | None = None, **_: object) -> Self:
        if strategy is None:  # as `copy` makes one
            return super().__new__(cls)
        ANOTHER_STRATEGY.check("strategy", strategy)
        inner = type(strategy)
        if issubclass(inner, cls):
            raise TypeError(f"{inner.__name__} is a {cls.__name__} already")
        names = {"__module__": inner.__module__, "__qualname__": f"{cls.__qualname__}({inner.__qualname__})"}
        both: type[Self] = SuggestsKeywords(cls.__name__, (cls, inner), names)  # type: ignore[assignment]  # mypy: a metaclass makes SuggestsKeywords, and no class
        made = super().__new__(both)
        vars(made).update(vars(strategy))
        return made
