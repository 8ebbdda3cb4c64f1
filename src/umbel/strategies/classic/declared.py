"""What a classic strategy's classes say of it, and which of its methods are its owner's. Knows no run."""

from __future__ import annotations

from typing import get_args

from umbel.errors import StrategyError
from umbel.strategies.algorithm import Receives
from umbel.strategies.base import Strategy
from umbel.strategies.fedavg import FedAvg

__all__ = ["held_by", "methods_are_ours", "receives_of"]

# The methods as FedAvg has them: no relative of Umbel's own has another one of these. Noted here, because programs put
# functions of theirs into our classes, too.
_OURS = {
    name: getattr(FedAvg, name)
    for name in (
        "initialize_parameters",
        "configure_fit",
        "aggregate_fit",
        "configure_evaluate",
        "aggregate_evaluate",
        "evaluate",
        "configure_exchange",
        "aggregate_exchanges",
    )
}


def methods_are_ours(strategy: FedAvg) -> bool:
    """Whether a run may go by the value that a strategy fills: all its methods are Umbel's, and it remembers nothing in
    `facts`, which a strategy reads from itself. Raises `StrategyError` where its `receives` is none.
    """
    ours = all(getattr(type(strategy), name) is method for name, method in _OURS.items())
    said = receives_of(strategy) is not None
    return ours and said and not _OURS.keys() & vars(strategy).keys() and not strategy.facts


def receives_of(strategy: Strategy) -> Receives | None:
    """What the `aggregate_fit` of a strategy receives, as `Strategy` has it; None where nothing is said of that method.

    What a class says holds for the method that it has or inherits, and not for one that a class derived from it has.

    Raises `StrategyError` where something else is said.
    """
    said: Receives | None = strategy.receives
    if said is not None and said not in get_args(Receives):
        known = ", ".join(map(repr, get_args(Receives)))
        raise StrategyError(f"{type(strategy).__name__}.receives is {said!r}; it is one of {known}")
    for names in (vars(strategy), *map(vars, type(strategy).__mro__)):
        if "receives" in names:
            return said
        if "aggregate_fit" in names or "aggregate_exchanges" in names:
            return None
    return None


def held_by(strategy: Strategy) -> list[Strategy]:
    """The strategy, and those that it holds, because its methods may ask theirs."""
    held = [strategy]
    for each in held:  # which grow
        inside = (value for value in vars(each).values() if isinstance(value, Strategy))
        held += [value for value in inside if all(value is not other for other in held)]
    return held
