"""Tables of text: rows of cells with aligned columns, and a History with a line a round."""

from __future__ import annotations

from umbel.runtime.observers.console import in_digits, printable
from umbel.runtime.observers.history import History

__all__ = ["align", "table"]

MAX_COLUMNS = 12


def table(history: History) -> list[str]:
    """The lines of a table: a header and one line per round that left anything; empty for an empty history.

    Losses and the first metrics, twelve columns at most; the History has the rest.
    """
    columns = dict(list(history.columns().items())[:MAX_COLUMNS])
    rounds = sorted({number for values in columns.values() for number in values})
    rows = [["round", *(printable(name, 24) for name in columns)]]
    rows += [[str(number), *(_cell(values.get(number)) for values in columns.values())] for number in rounds]
    return align(rows) if rounds else []


def align(rows: list[list[str]]) -> list[str]:
    """One line per row, each column as wide as its widest cell, and to the right.

    >>> align([["round", "loss"], ["1", "0.25"]])
    ['round  loss', '    1  0.25']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cell(value: object) -> str:
    return "" if value is None else in_digits(value, 24)
