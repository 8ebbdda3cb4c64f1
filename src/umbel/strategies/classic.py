"""Which classic methods a user's strategy has made its own. The one place where that makes a difference."""

from __future__ import annotations

from umbel.strategies.base import Strategy

__all__ = ["combines_by_itself"]


def combines_by_itself(strategy: Strategy) -> bool:
    """Whether `aggregate_fit` is the user's own from end to end, so that its updates may have any names and shapes.

    An override that calls the method it overrides (to save the model each round, say) still combines as Umbel does, and its
    updates are checked against the model.
    """
    for type_ in type(strategy).__mro__:
        method = vars(type_).get("aggregate_fit")
        if method is not None:
            if type_.__module__.startswith("umbel."):
                return False
            code = getattr(method, "__code__", None)
            if code is None or "aggregate_fit" not in code.co_names:
                return True
    return True
