"""Figures: what was measured, beside which floor, and whether that is good enough. Knows no processes."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from processes import BenchError

__all__ = ["TIMES", "Row", "Sample", "Settings", "Target", "alternating", "at_most", "at_most_floors", "at_most_flwr"]

TIMES = "\N{MULTIPLICATION SIGN}"

Sample = dict[str, float]  # one measurement: name → value


@dataclass(frozen=True)
class Settings:
    """`flwr` is the Python of an environment with flwr; None leaves the comparison out."""

    python: str
    flwr: str | None
    quick: bool
    repeats: int

    def scaled(self, number: int) -> int:
        """A size, a tenth of it in a quick run."""
        return max(number // 10, 1) if self.quick else number


@dataclass(frozen=True)
class Row:
    """One figure. `floor` and `flwr` are in the same unit, None where there is none; fewer is better."""

    what: str
    unit: str
    ours: float
    floor: float | None = None
    flwr: float | None = None
    targets: tuple[Target, ...] = ()

    @property
    def verdict(self) -> str:
        judged = [target.met(self) for target in self.targets]
        if False in judged:
            return "missed"
        return "met" if True in judged else ""


class Target(NamedTuple):
    """`met` is None where a figure lacks what it would be compared with."""

    text: str
    met: Callable[[Row], bool | None]


def at_most(limit: float, unit: str) -> Target:
    return Target(f"≤ {limit:g} {unit}".rstrip(), lambda row: row.ours <= limit)


def at_most_floors(times: float) -> Target:
    return Target(f"≤ {times:g} {TIMES} floor", lambda row: None if row.floor is None else row.ours <= times * row.floor)


def at_most_flwr(divisor: float) -> Target:
    text = "≤ flwr" if divisor == 1 else f"≤ flwr / {divisor:g}"
    return Target(text, lambda row: None if row.flwr is None else row.ours <= row.flwr / divisor)


def alternating(repeats: int, **variants: Callable[[], Sample] | None) -> dict[str, Sample]:
    """Measures the variants in turn, `repeats` times; for each the median of every value.

    A variant that is None, or fails and is not ours, has an empty sample.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, measure in variants.items():
            if measure is None:
                continue
            try:
                samples[name].append(measure())
            except BenchError as error:
                if name.startswith("umbel"):
                    raise
                print(f"  {name} could not be measured: {error}", file=sys.stderr)
    return {name: _medians(taken) for name, taken in samples.items()}


def _medians(samples: list[Sample]) -> Sample:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]} if samples else {}
