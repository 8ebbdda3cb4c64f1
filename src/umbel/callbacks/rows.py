"""Which rounds are still to be reported: each once, also those that an earlier process had no time to report.

Knows the History; knows no file and no tracker.
"""

from __future__ import annotations

from umbel.runtime.observers.history import History

__all__ = ["rows_after"]


def rows_after(history: History, number: int) -> dict[int, dict[str, object]]:
    """The rounds after this one that have left anything, in order, each with its row of the table `History.columns`.

    >>> rows_after(History(losses_distributed=[(1, 0.5), (3, 0.25)], metrics_centralized={"accuracy": [(3, 0.8)]}), 1)
    {3: {'loss': 0.25, 'central accuracy': 0.8}}
    """
    found: dict[int, dict[str, object]] = {}
    for title, series in history.named_series():
        for at, value in reversed(series):  # only what is new is looked at: a run may have 100,000 rounds
            if at <= number:
                break
            found.setdefault(at, {}).setdefault(title, value)
    return {at: found[at] for at in sorted(found)}
