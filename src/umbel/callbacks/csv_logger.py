"""A run's table as a CSV file, a row a round."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TextIO

from umbel.callbacks.base import Callback, Logs
from umbel.callbacks.files import replacing
from umbel.callbacks.rows import rows_after
from umbel.keywords import checked

__all__ = ["CSVLogger"]


class CSVLogger(Callback):
    """Writes a row with the columns of `History.columns` for each round, as soon as it is done.

    - `path`: the file; "{run}" in it stands for the run's name. A run that goes on goes on with its file, and a new run
      begins a new one.
    - `separator`: what stands between two columns

    A column that comes late is empty in the rows before it. Numbers are written so that they read back exactly.
    """

    @checked
    def __init__(self, path: str | Path, *, separator: str = ",") -> None:
        self._pattern, self._separator = str(path), separator
        self._path = Path(self._pattern)
        self._columns: list[str] = []
        self._last = -1

    def on_run_begin(self, logs: Logs) -> None:
        self._path = Path(self._pattern.replace("{run}", str(logs["run"])))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write()  # all that the run has so far: an earlier process may have written less, or more

    def on_round_end(self, round: int, logs: Logs) -> None:
        columns = [title for title, _ in self.history.named_series()]
        if columns != self._columns or round <= self._last:  # a new column, or a round that is done again
            self._write()
            return
        with self._path.open("a", newline="") as file:
            self._append(file)

    def on_run_end(self, logs: Logs) -> None:
        self._write()

    def _write(self) -> None:
        self._columns, self._last = [title for title, _ in self.history.named_series()], -1
        with replacing(self._path) as whole, whole.open("w", newline="") as file:
            csv.writer(file, delimiter=self._separator).writerow(["round", *self._columns])
            self._append(file)

    def _append(self, file: TextIO) -> None:
        rows = csv.writer(file, delimiter=self._separator)
        for number, row in rows_after(self.history, self._last).items():
            rows.writerow([number, *(row.get(name, "") for name in self._columns)])
            self._last = number
