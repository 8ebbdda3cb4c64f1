"""What a strategy may remember in facts: plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from umbel.dialogue import plain_scalar
from umbel.errors import StrategyError
from umbel.wire import short

__all__ = ["Number", "check_numbers"]

Number = bool | int | float


def check_numbers(what: str, facts: Mapping[str, object]) -> dict[str, Number]:
    """Facts as plain numbers. Raises `StrategyError`, which names what is none."""
    plain = {}
    for name, value in facts.items():
        number = plain_scalar(value)
        fits = isinstance(number, float) or (isinstance(number, int) and -(2**63) <= number < 2**64)
        if not isinstance(number, (bool, int, float)) or not fits or math.isnan(number):
            raise StrategyError(
                f"{what}: {short(name)} is {short(value)}; facts are plain numbers of 64 bits, and NaN is none. Arrays are "
                "slots of an optimizer"
            )
        plain[name] = number
    return plain
