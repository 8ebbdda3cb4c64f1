"""What a strategy remembers in plain numbers: lent to it for each question, and taken back with the answer.

Knows strategies and numbers; knows no run and no file. Arrays are remembered by optimizers, as slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from umbel.errors import StrategyError
from umbel.strategies.base import Strategy
from umbel.strategies.numbers import Number, check_numbers
from umbel.wire import short

__all__ = ["Facts"]

FIRST = "_first_facts"  # the attribute with the facts that a strategy was made with: it may be run twice


class Facts:
    """The facts of a strategy and of those that it holds, by name; of the latter with their number before it."""

    def __init__(self, strategies: list[Strategy]) -> None:
        """Raises `StrategyError` for facts that are no numbers."""
        self._of: list[tuple[Strategy, str, dict[str, Number]]] = []
        for number, strategy in enumerate(strategies):
            if isinstance(strategy.facts, Mapping) and (FIRST in vars(strategy) or strategy.facts):
                first = vars(strategy).setdefault(FIRST, check_numbers(f"{type(strategy).__name__}.facts", strategy.facts))
                self._of.append((strategy, f"{number}/" if number else "", first))

    def __bool__(self) -> bool:
        return bool(self._of)

    def lend(self, facts: Mapping[str, Number], *, writable: bool) -> None:
        """Gives the strategies these facts, and the first ones where there are none yet."""
        for strategy, prefix, first in self._of:
            mine = {name: facts.get(f"{prefix}{name}", value) for name, value in first.items()}
            strategy.facts = mine if writable else _Lent(mine)

    def take_back(self, method: str, facts: Mapping[str, Number]) -> dict[str, Number] | None:
        """The facts that the strategies have now; None where they still are `facts`. Raises `StrategyError` for others."""
        found: dict[str, Number] = {}
        for strategy, prefix, first in self._of:
            now = check_numbers(f"{method}() made of {type(strategy).__name__}.facts", strategy.facts)
            odd = sorted(now.keys() ^ first.keys(), key=str)
            if odd:
                left = f"{type(strategy).__name__}.facts {'with' if odd[0] in now else 'without'} {short(odd[0])}"
                names = ", ".join(map(short, first))
                raise StrategyError(f"{method}() left {left}; declared are {names}, each with its first value")
            before = {name: facts.get(f"{prefix}{name}", value) for name, value in first.items()}
            found |= {f"{prefix}{name}": value for name, value in now.items() if value != before[name]}
        return {**facts, **found} if found else None


class _Lent(dict[str, Number]):
    """Facts that are not to be changed now."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise StrategyError(
            "facts cannot be changed here: configure_fit() and its like may be asked several times in a round. Change them "
            "in aggregate_fit(), evaluate() or aggregate_evaluate()"
        )

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse
