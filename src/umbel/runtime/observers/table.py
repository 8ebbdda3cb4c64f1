"""A History as a table of text, a line a round."""

from __future__ import annotations

from umbel.runtime.observers.history import History

__all__ = ["table"]


def table(history: History) -> list[str]:
    """The lines of a table: a header and one line per round that left anything; empty for an empty history."""
    columns: dict[str, dict[int, object]] = {}
    for title, series in (("loss", history.losses_distributed), ("central loss", history.losses_centralized)):
        if series:
            columns[title] = dict(series)
    for prefix, metrics in (
        ("fit ", history.metrics_distributed_fit),
        ("", history.metrics_distributed),
        ("central ", history.metrics_centralized),
    ):
        for name, series in metrics.items():
            columns[prefix + name] = dict(series)
    rounds = sorted({number for values in columns.values() for number in values})
    rows = [["round", *columns]]
    rows += [[str(number), *(_cell(values.get(number)) for values in columns.values())] for number in rounds]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return lines if rounds else []


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)[:24]
