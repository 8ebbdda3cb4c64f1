"""Keeping versions of the model as files while a run goes on."""

from __future__ import annotations

import math
from pathlib import Path

from umbel.callbacks.base import Callback, Logs
from umbel.callbacks.files import replacing
from umbel.callbacks.rows import rows_after
from umbel.keywords import checked
from umbel.runtime.saved import describe, write_model
from umbel.until import Mode, Until, improves

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Callback):
    """Writes the model after each round, or after each that is the best so far, as a safetensors file.

    - `path`: the file; "{round}", "{run}" and the names of metrics in it are filled in, as in
      "model-{round:03}-{loss:.2f}.safetensors". Without any the file always has the newest one. A file appears complete or
      not at all, and says in its metadata of which run and round it is, its loss and the order of its names.
    - `save_best_only`: only where `monitor` is better than in all rounds before, also in those before a resume
    - `monitor`, `mode`: as in `EarlyStopping`

    A round without a finite number for `monitor` is not the best. `keep_best=` of a strategy keeps the best one in the run's
    own folder, without a callback.
    """

    @checked
    def __init__(
        self, path: str | Path, *, monitor: str = "loss", save_best_only: bool = False, mode: Mode = "auto"
    ) -> None:
        self._pattern, self._best_only = str(path), save_best_only
        self._monitor, self._highest = monitor, Until(metric=monitor, mode=mode, patience=1).highest
        self._run = ""
        self._best: float | None = None

    def on_run_begin(self, logs: Logs) -> None:
        self._run, self._best = str(logs["run"]), None
        for row in rows_after(self.history, 0).values():
            self._improves(row)

    def on_round_end(self, round: int, logs: Logs) -> None:
        if self._improves(logs) or not self._best_only:
            known = {**logs, "round": round, "run": self._run}
            try:
                path = Path(self._pattern.format(**known))
            except KeyError as error:
                there = ", ".join(f"{{{name}}}" for name in sorted(known))
                odd = f"{{{error.args[0]}}}"
                raise ValueError(f"{self._pattern!r} has {odd}, which no round has; there are {there}") from None
            self._write(path, round, logs.get("central loss", logs.get("loss")))

    def _improves(self, row: Logs) -> bool:
        value = row.get(f"central {self._monitor}", row.get(self._monitor))
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        better = improves(value, self._best, highest=self._highest)
        self._best = value if better else self._best
        return better

    def _write(self, path: Path, number: int, loss: object) -> None:
        content = self._followed().content()
        said = describe(content.schema.names, run=self._run, number=number, loss=loss)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as whole, whole.open("wb") as file:
            write_model(content, said, file.write)
