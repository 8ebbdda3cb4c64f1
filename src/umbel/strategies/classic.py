"""Which classic methods a user's strategy has made its own. The one place where that makes a difference."""

from __future__ import annotations

from inspect import getattr_static
from types import CellType, CodeType

from umbel.aggregators import Aggregator, Rule
from umbel.pace import Pace
from umbel.statistics import statistics_of
from umbel.stepping import CENTRE, FACTS
from umbel.strategies.base import Parts, Strategy
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.sound import check_sound
from umbel.transforms import Chain, chain, identity
from umbel.wire import Schema

__all__ = ["check_model", "combines_by_itself", "slots_of", "summing", "transforms_of"]


def combines_by_itself(strategy: Strategy) -> bool:
    """Whether `aggregate_fit` is the user's own from end to end, so that its updates may have any names and shapes; or says
    by `free_form` that they may.

    An override that calls the method it overrides (to save the model each round, say) still combines as Umbel does, and its
    updates are checked against the model; and so does one that leaves it to a strategy that it holds.
    """
    return any(_own(each) for each in _held(strategy))


def _own(strategy: Strategy) -> bool:
    if strategy.free_form:
        return True
    for type_ in type(strategy).__mro__:
        method = vars(type_).get("aggregate_fit")
        if method is not None:
            if type_.__module__.startswith("umbel."):
                return False
            if not _calls_another(method, type_):
                return True
    return True


def _calls_another(method: object, owner: type) -> bool:
    """Whether an `aggregate_fit` is called by the method: itself, in what it wraps, or in another method that it uses."""
    parts = [method]
    for part in parts:  # which grow: what each of them may call
        code = part if isinstance(part, CodeType) else getattr(part, "__code__", None)
        found = [*getattr(part, "__dict__", {}).values()]  # `__wrapped__`, and what an object that is called holds
        found += [cell.cell_contents for cell in getattr(part, "__closure__", None) or () if cell != CellType()]
        if isinstance(code, CodeType):
            if "aggregate_fit" in code.co_names:
                return True
            found += [*code.co_consts, *(getattr_static(owner, name, None) for name in code.co_names)]
        able = (each for each in found if isinstance(each, CodeType) or (callable(each) and not isinstance(each, type)))
        parts += [each for each in able if all(each is not part for part in parts)]
    return False


def _held(strategy: Strategy) -> list[Strategy]:
    """The strategy, and those that it holds, because its methods may ask theirs."""
    held = [strategy]
    for each in held:  # which grow
        inside = (value for value in vars(each).values() if isinstance(value, Strategy))
        held += [value for value in inside if all(value is not other for other in held)]
    return held


def summing(strategy: Strategy, pace: Pace) -> Aggregator | None:
    """The aggregator by which workers may fold updates before anyone has seen them; None where each is needed by itself.

    A strategy needs each that has an `aggregate_fit` of its own, or a rule that is no sum; and so does a pace that may close
    a round before all have answered.
    """
    if not isinstance(strategy, FedAvg) or type(strategy).aggregate_fit is not FedAvg.aggregate_fit:
        return None
    if type(strategy).aggregate_exchanges is not FedAvg.aggregate_exchanges:
        return None
    aggregator = strategy.parts.aggregator
    whole_cohort = pace.goal is None and pace.deadline is None
    plain = type(strategy)._weights is FedAvg._weights
    return aggregator if whole_cohort and plain and isinstance(aggregator, Aggregator) else None


def slots_of(strategy: Strategy) -> tuple[str, ...]:
    """The names of what the strategy, and those that it holds, remember from step to step."""
    parts = _parts(strategy)
    optimizers = [slot for part in parts for slot in part.optimizer.slots]
    keeps = any(isinstance(part.aggregator, Rule) and part.aggregator.keeps for part in parts)
    facts = [FACTS] if transforms_of(strategy).facts else []
    return tuple(dict.fromkeys([*optimizers, *([CENTRE] if keeps else []), *facts]))


def transforms_of(strategy: Strategy) -> Chain:
    """What happens to updates on their way: in the strategy, or in the first that it holds.

    Raises `ValueError` where that cannot be, as for a strategy that combines by itself.
    """
    for parts in _parts(strategy):
        if found := chain(parts.transform).links:
            by_itself, limit = combines_by_itself(strategy), strategy.pace.max_update_norm
            check_sound(type(strategy).__name__, parts, free_form=by_itself, max_update_norm=limit)
            return Chain(found)
    return identity()


def check_model(strategy: Strategy, model: Schema) -> None:
    """Raises `StrategyError` where the strategy names arrays that the model does not have."""
    for parts in _parts(strategy):
        statistics_of(model, parts.averaged)


def _parts(strategy: Strategy) -> list[Parts]:
    return [each.parts for each in _held(strategy) if isinstance(each, FedAvg)]
