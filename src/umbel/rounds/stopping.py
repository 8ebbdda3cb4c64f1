"""What ends a run before its last round, and which version is the best so far. Knows numbers; knows no clients.

Both watch metrics of a round's evaluations: the owner's own where it has them, otherwise the clients'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from umbel.pace import Pace
from umbel.until import improves

__all__ = ["Standing", "find_watched"]

Measured = Mapping[str, float | None]  # what a round's evaluations have found of the watched metrics; None: no finite number


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands by the metrics that it watches."""

    progress: float | None = None  # the best of the metric that may end the run, and the round that had it
    progress_round: int = 0
    best: float | None = None  # the best of the metric by which a version is kept, its version and its round
    best_version: int | None = None
    best_round: int = 0

    def after(self, pace: Pace, measured: Measured, number: int, version: int | None) -> Standing:
        """How it stands after this round, which ended with this version."""
        standing, until = self, pace.until
        value = measured.get(pace.keep_best or "")
        if value is not None and pace.better(value, self.best):
            standing = replace(standing, best=value, best_version=version, best_round=number)
        value = None if until is None else measured.get(until.metric)
        if until is None or value is None:
            return standing
        if improves(value, self.progress, highest=until.highest, by=until.min_delta):
            standing = replace(standing, progress=value, progress_round=number)
        return standing

    def without_best(self) -> Standing:
        return replace(self, best=None, best_version=None, best_round=0)

    def ends(self, pace: Pace, measured: Measured, number: int, at: float) -> str:
        """What ends the run with this round; "" for nothing."""
        until = pace.until
        if until is None:
            return ""
        if until.metric in measured:  # there was an evaluation in this round
            value = measured[until.metric]
            why = "" if value is None else until.reached(value)
            if why:
                return why
            waited = number - self.progress_round
            if until.patience is not None and waited >= until.patience:
                if self.progress is None:
                    return f"{until.metric} has been no finite number for {waited} rounds"
                return f"{until.metric} has not become better than {self.progress:g} for {waited} rounds"
        return f"{until.seconds:g} s have passed" if until.seconds is not None and at >= until.seconds else ""

    def name_unseen(self, pace: Pace, measured: Measured, loss: object, metrics: Mapping[str, object]) -> str:
        """Says which watched metric no evaluation has reported so far; "" where there is none, or no evaluation."""
        until = pace.until.metric if pace.until is not None and pace.until.watches and self.progress is None else None
        best = pace.keep_best if self.best is None else None
        reported = [*(["loss"] if loss is not None else []), *metrics]
        said = [
            f"{keyword} watches {name!r}, which no evaluation has reported so far; they report {', '.join(reported)}"
            for keyword, name in (("until", until), ("keep_best", best))
            if name is not None and measured.get(name) is None and reported
        ]
        return "; ".join(said)


def find_watched(pace: Pace, loss: object, metrics: Mapping[str, object]) -> dict[str, float | None]:
    """The watched metrics of an evaluation; None for those that are no finite number."""
    found = {name: loss if name == "loss" else metrics.get(name) for name in pace.watched}
    return {
        name: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
        for name, value in found.items()
    }
