"""Which classic methods a user's strategy has made its own. The one place where that makes a difference."""

from __future__ import annotations

from umbel.aggregators import Aggregator, Rule
from umbel.pace import Pace
from umbel.stepping import CENTRE
from umbel.strategies.base import Strategy
from umbel.strategies.fedavg import FedAvg
from umbel.transforms import identity

__all__ = ["combines_by_itself", "slots_of", "summing"]


def combines_by_itself(strategy: Strategy) -> bool:
    """Whether `aggregate_fit` is the user's own from end to end, so that its updates may have any names and shapes.

    An override that calls the method it overrides (to save the model each round, say) still combines as Umbel does, and its
    updates are checked against the model.
    """
    for type_ in type(strategy).__mro__:
        method = vars(type_).get("aggregate_fit")
        if method is not None:
            if type_.__module__.startswith("umbel."):
                return isinstance(strategy, FedAvg) and strategy.free_form
            code = getattr(method, "__code__", None)
            if code is None or "aggregate_fit" not in code.co_names:
                return True
    return True


def summing(strategy: Strategy, pace: Pace) -> Aggregator | None:
    """The aggregator by which workers may fold updates before anyone has seen them; None where each is needed by itself.

    A strategy needs each that has an `aggregate_fit` of its own, a transform, or a rule that is no sum; and so does a pace
    that may close a round before all have answered.
    """
    if not isinstance(strategy, FedAvg) or type(strategy).aggregate_fit is not FedAvg.aggregate_fit:
        return None
    aggregator = strategy.parts.aggregator
    whole_cohort = pace.goal is None and pace.deadline is None
    plain = strategy.parts.transform is identity() and type(strategy)._weights is FedAvg._weights
    return aggregator if whole_cohort and plain and isinstance(aggregator, Aggregator) else None


def slots_of(strategy: Strategy) -> tuple[str, ...]:
    """The names of what the strategy remembers from step to step."""
    if not isinstance(strategy, FedAvg):
        return ()
    aggregator, optimizer = strategy.parts.aggregator, strategy.parts.optimizer
    return (*optimizer.slots, *([CENTRE] if isinstance(aggregator, Rule) and aggregator.keeps else []))
