"""What a classic strategy needs, as its classes declare it and as its parts are. Knows no run."""

from __future__ import annotations

from typing import get_args

from umbel.aggregators import Aggregator, Rule
from umbel.errors import StrategyError
from umbel.fold import CENTRE, FACTS, statistics_of
from umbel.pace import Pace
from umbel.strategies.base import Parts, Receives, Strategy
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.sound import check_sound
from umbel.transforms import Chain, chain, identity
from umbel.wire import Schema

__all__ = ["aggregator_of", "check_model", "held_by", "receives_of", "slots_of", "transforms_of"]


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


def aggregator_of(strategy: Strategy, pace: Pace) -> Aggregator | None:
    """The aggregator by which workers may fold updates before anyone has seen them; None where each is needed by itself.

    Each is needed by a rule that is no sum, and by a pace that may close a round before all have answered.
    A strategy that holds another one and says nothing is given what that one takes.
    """
    holders = [each for each in held_by(strategy) if isinstance(each, FedAvg)]
    if not holders or {receives_of(strategy), receives_of(holders[0])} & {"updates", "anything"}:
        return None
    aggregator = holders[0].parts.aggregator
    whole_cohort = pace.goal is None and pace.deadline is None
    return aggregator if whole_cohort and isinstance(aggregator, Aggregator) else None


def held_by(strategy: Strategy) -> list[Strategy]:
    """The strategy, and those that it holds, because its methods may ask theirs."""
    held = [strategy]
    for each in held:  # which grow
        inside = (value for value in vars(each).values() if isinstance(value, Strategy))
        held += [value for value in inside if all(value is not other for other in held)]
    return held


def slots_of(strategy: Strategy) -> tuple[str, ...]:
    """The names of what the strategy, and those that it holds, remember from step to step."""
    parts = _parts(strategy)
    optimizers = [slot for part in parts for slot in part.optimizer.slots]
    keeps = any(isinstance(part.aggregator, Rule) and part.aggregator.keeps for part in parts)
    facts = [FACTS] if transforms_of(strategy).facts else []
    return tuple(dict.fromkeys([*optimizers, *([CENTRE] if keeps else []), *facts]))


def transforms_of(strategy: Strategy) -> Chain:
    """What happens to updates on their way: in the strategy, or in the first that it holds.

    Raises `ValueError` where that cannot be, as for a strategy that takes updates of any form, or a transform that nobody
    has registered.
    """
    for parts in _parts(strategy):
        if found := chain(parts.transform).links:
            receives, limit = receives_of(strategy), strategy.pace.max_update_norm
            check_sound(type(strategy).__name__, parts, receives=receives, max_update_norm=limit)
            transforms = Chain(found)
            transforms.makers  # noqa: B018  # raises for one that the clients could not make
            return transforms
    return identity()


def check_model(strategy: Strategy, model: Schema) -> None:
    """Raises `StrategyError` where the strategy names arrays that the model does not have, or has transforms for one
    without any, and `ValueError` where a transform has no layout for it.
    """
    for parts in _parts(strategy):
        statistics_of(model, parts.averaged)
    transforms = transforms_of(strategy)
    if transforms.links and not len(model):
        raise StrategyError(
            "transform= goes by the model's arrays, and no client has parameters to begin with; give the strategy "
            "initial_parameters=, or leave out transform="
        )
    transforms.layouts(model)


def _parts(strategy: Strategy) -> list[Parts]:
    return [each.parts for each in held_by(strategy) if isinstance(each, FedAvg)]
