"""When a run ends before its last round. Knows numbers; knows no clock, no model and no clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from umbel.keywords import check_fields
from umbel.suggest import SuggestsKeywords

__all__ = ["Mode", "Until", "improves"]

Mode: TypeAlias = Literal["auto", "min", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Until(metaclass=SuggestsKeywords):
    """A run ends with the round after which one of these is so; `num_rounds` is its end in any case.

    - `metric`: the number that is watched, "loss" or the name of a metric: of the owner's central evaluation where that has
      it, otherwise of the clients' evaluation
    - `at_least`, `at_most`: the target that it reaches
    - `patience`: so many rounds in a row in which it was not better than the best before by more than `min_delta`. Less is
      better for "loss" and where there is an `at_most`, more otherwise; `mode` "min" or "max" says so itself. An evaluation
      without a finite number for it is one in which it was not better. The evaluation before the first round does not count.
    - `seconds`: run time, which stands still while no server runs

    >>> Until(metric="accuracy", at_least=0.97).reached(0.975)
    'accuracy is 0.975, at least 0.97'
    """

    metric: str = "loss"
    at_least: float | None = None
    at_most: float | None = None
    patience: int | None = None
    min_delta: float = 0.0
    seconds: float | None = None
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.watches and self.seconds is None:
            raise ValueError("Until() never ends a run: give at_least, at_most, patience or seconds")
        if self.at_least is not None and self.at_most is not None:
            raise ValueError("a target is at_least or at_most, not both")

    @property
    def watches(self) -> bool:
        """Whether the metric matters."""
        return self.at_least is not None or self.at_most is not None or self.patience is not None

    @property
    def highest(self) -> bool:
        """Whether more is better."""
        if self.mode != "auto":
            return self.mode == "max"
        return self.at_most is None and self.metric != "loss"

    def reached(self, value: float) -> str:
        """Which target a value reaches; "" for none."""
        if self.at_least is not None and value >= self.at_least:
            return f"{self.metric} is {value:g}, at least {self.at_least:g}"
        if self.at_most is not None and value <= self.at_most:
            return f"{self.metric} is {value:g}, at most {self.at_most:g}"
        return ""


def improves(value: float, best: float | None, *, highest: bool, by: float = 0.0) -> bool:
    """Whether a value is better than the best so far by more than `by`.

    >>> improves(0.5, None, highest=True), improves(0.5, 0.4, highest=True, by=0.2), improves(0.5, 0.6, highest=False)
    (True, False, True)
    """
    return best is None or (value > best + by if highest else value < best - by)
