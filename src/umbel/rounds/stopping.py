"""What ends a run before its last round, and which version is the best so far. Knows numbers; asks nobody.

Both watch metrics of a round's evaluations: the owner's own where it has them, otherwise the clients'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from umbel.pace import Pace
from umbel.rounds.state import State
from umbel.until import improves

__all__ = ["find_watched", "keep_best", "name_unseen", "reached"]


def find_watched(pace: Pace, loss: object, metrics: Mapping[str, object]) -> dict[str, float | None]:
    """What an evaluation has found of the watched metrics; None for what is no finite number."""
    found = {name: loss if name == "loss" else metrics.get(name) for name in pace.watched}
    return {
        name: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
        for name, value in found.items()
    }


def name_unseen(pace: Pace, s: State, loss: object, metrics: Mapping[str, object]) -> str:
    """Says which watched metric no evaluation has reported so far; "" where there is none, or no evaluation."""
    until = pace.until.metric if pace.until is not None and pace.until.watches and s.progress is None else None
    best = pace.keep_best if s.best is None else None
    reported = [*(["loss"] if loss is not None else []), *metrics]
    said = [
        f"{keyword} watches {name!r}, which no evaluation has reported so far; they report {', '.join(reported)}"
        for keyword, name in (("until", until), ("keep_best", best))
        if name is not None and s.measured.get(name) is None and reported
    ]
    return "; ".join(said)


def keep_best(pace: Pace, s: State) -> None:
    """Notes in the state whether this round's version is the best."""
    value = s.measured.get(pace.keep_best or "")
    if value is not None and pace.better(value, s.best):
        s.best, s.best_version, s.best_round = value, s.version, s.round


def reached(pace: Pace, s: State, at: float) -> str:
    """What ends the run with this round; "" for nothing. Notes progress in the state."""
    until = pace.until
    if until is None:
        return ""
    if until.metric in s.measured:  # there was an evaluation in this round
        value = s.measured[until.metric]
        if value is not None and improves(value, s.progress, highest=until.highest, by=until.min_delta):
            s.progress, s.progress_round = value, s.round
        why = "" if value is None else until.reached(value)
        if why:
            return why
        waited = s.round - s.progress_round
        if until.patience is not None and waited >= until.patience:
            if s.progress is None:
                return f"{until.metric} has been no finite number for {waited} rounds"
            return f"{until.metric} has not become better than {s.progress:g} for {waited} rounds"
    return f"{until.seconds:g} s have passed" if until.seconds is not None and at >= until.seconds else ""
