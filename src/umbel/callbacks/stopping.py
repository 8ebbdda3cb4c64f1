"""Ending a run by a metric, as people know it from Keras. Knows the rules of a run, and no event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from umbel.callbacks.base import Callback
from umbel.keywords import checked
from umbel.pace import Pace
from umbel.until import Mode, Until

__all__ = ["EarlyStopping", "with_stopping"]


class EarlyStopping(Callback):
    """Ends the run after `patience` rounds without an improvement of `monitor` by more than `min_delta`.

    `callbacks=[EarlyStopping(monitor="accuracy", patience=3)]` is another way to write
    `FedAvg(until=Until(metric="accuracy", patience=3))`, and becomes exactly that: a callback only looks on, so that a run
    has the same bits with and without it; what may end a run belongs to its rules, is in its journal, and holds after a
    resume, too.

    - `monitor`: "loss" or the name of a metric: of `evaluate_fn` where that has it, otherwise of the clients' evaluation
    - `mode`: "min" where less is better, "max" where more is; "auto" is "min" for "loss" and "max" for every other metric

    >>> EarlyStopping(monitor="error", patience=2, mode="min").until.highest
    False
    """

    @checked
    def __init__(self, monitor: str = "loss", *, patience: int = 1, min_delta: float = 0.0, mode: Mode = "auto") -> None:
        self.until = Until(metric=monitor, patience=patience, min_delta=min_delta, mode=mode)


def with_stopping(pace: Pace, callbacks: Sequence[Callback]) -> Pace:
    """The pace that ends where an `EarlyStopping` says so. Raises `ValueError` where more than one thing would end it."""
    rules = [one.until for one in callbacks if isinstance(one, EarlyStopping)]
    if not rules:
        return pace
    if len(rules) > 1 or pace.until is not None:
        other = "another EarlyStopping" if pace.until is None else "the strategy's until="
        raise ValueError(
            f"callbacks= has an EarlyStopping beside {other}; a run ends by one rule: leave one of them out, or write all "
            "that it has to be as until=Until(metric=…, at_least=…, patience=…, seconds=…) of the strategy"
        )
    return replace(pace, until=rules[0])
