"""`report_to=`: a run's rounds in experiment trackers, by the trackers' own libraries, imported when a run begins.

Knows rounds and numbers. A tracker is three functions: begin with a run and say which round it has last, take a round's
numbers, and end. It takes each round once, also where an earlier process of the run has reported some of
them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from numbers import Real
from typing import Literal, Protocol, TypeAlias

from umbel.callbacks.base import Callback, Logs
from umbel.callbacks.csv_logger import CSVLogger
from umbel.callbacks.rows import rows_after

__all__ = ["Tracker", "TrackerName", "trackers_of"]

TrackerName: TypeAlias = Literal["csv", "mlflow", "tensorboard", "trackio", "wandb"]
Numbers: TypeAlias = dict[str, float]
PROJECT = "umbel"  # where the tracker's own environment variables name no other


class Reports(Protocol):
    """One run in one tracker. `last` is the last round that it had when it began, -1 for none."""

    last: int

    def log(self, number: int, numbers: Numbers) -> None: ...
    def end(self, status: str) -> None: ...


class Tracker(Callback):
    """Reports the numbers of each round to one tracker."""

    def __init__(self, name: str, begin: Callable[[str], Reports]) -> None:
        self._name, self._begin = name, begin
        self._reports: Reports | None = None
        self._last = -1

    def __repr__(self) -> str:
        return f"Tracker({self._name!r})"

    def on_run_begin(self, logs: Logs) -> None:
        run = str(logs["run"])
        if run == "simulation":  # without a store they are all called so
            run = f"simulation-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 1000 % 10**6:06}"
        self._reports = self._begin(run)
        self._last = self._reports.last
        self._report()

    def on_round_end(self, round: int, logs: Logs) -> None:
        self._report()

    def on_run_end(self, logs: Logs) -> None:
        self._report()
        if self._reports is not None:
            self._reports.end(str(logs["status"]))

    def _report(self) -> None:
        for number, row in rows_after(self.history, self._last).items():
            if self._reports is not None:
                self._reports.log(number, _numbers(row))
            self._last = number


def trackers_of(names: Sequence[str]) -> list[Callback]:
    """A callback for each tracker. Raises `ImportError` with the remedy for one that is not installed."""
    found: list[Callback] = []
    for name in names:
        if name == "csv":
            found.append(CSVLogger("umbel-{run}.csv"))
            continue
        if find_spec(name) is None:
            raise ImportError(f"report_to={name!r} needs {name}, which is not installed. Run: pip install {name}")
        found.append(Tracker(name, _BEGIN[name]))
    return found


def _numbers(row: Mapping[str, object]) -> Numbers:
    """What trackers draw: numbers, not text and not bytes."""
    return {name: float(value) for name, value in row.items() if isinstance(value, Real)}


# ---- the trackers


class _TensorBoard:
    """Event files in runs/RUN, where `tensorboard --logdir runs` looks. TensorBoard has no state but these files."""

    def __init__(self, run: str) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = f"runs/{run}"
        self._writer = EventFileWriter(folder)
        before = EventAccumulator(folder, size_guidance={"scalars": 1}).Reload()  # the last of each
        self.last = max((before.Scalars(tag)[-1].step for tag in before.Tags()["scalars"]), default=-1)

    def log(self, number: int, numbers: Numbers) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=number, summary=Summary(value=values)))
        self._writer.flush()

    def end(self, status: str) -> None:
        self._writer.close()


class _MLflow:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME names, "umbel" by default; MLFLOW_TRACKING_URI says where."""

    def __init__(self, run: str) -> None:
        import os

        from mlflow import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        where = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        before = self._client.search_runs([where], f"tags.`umbel.run` = '{run}'", max_results=1)
        self._run = before[0] if before else self._client.create_run(where, tags={"umbel.run": run}, run_name=run)
        self._id = self._run.info.run_id
        steps = [self._client.get_metric_history(self._id, name)[-1].step for name in self._run.data.metrics]
        self.last = max(steps, default=-1)
        if before:
            self._client.update_run(self._id, status="RUNNING")

    def log(self, number: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._id, re.sub(r"[^\w\-. /]", "_", name), value, step=number)

    def end(self, status: str) -> None:
        ended = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
        self._client.set_terminated(self._id, ended.get(status, "KILLED"))


class _Wandb:
    """A run of WANDB_PROJECT, "umbel" by default; WANDB_MODE=offline works without an account."""

    def __init__(self, run: str) -> None:
        import os

        import wandb

        self._run = wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), id=run, name=run, resume="allow")
        self.last = self._run.step - 1 if self._run.resumed else -1

    def log(self, number: int, numbers: Numbers) -> None:
        self._run.log(numbers, step=number, commit=True)

    def end(self, status: str) -> None:
        self._run.finish(exit_code=int(status in ("failed", "interrupted")))


class _Trackio:
    """A run of TRACKIO_PROJECT, "umbel" by default, in Trackio's own folder on this machine."""

    def __init__(self, run: str) -> None:
        import os

        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self._run = trackio.init(project, name=run, resume="allow", **options)
        self.last = max((int(entry["step"]) for entry in trackio.SQLiteStorage.get_logs(project, run)), default=-1)

    def log(self, number: int, numbers: Numbers) -> None:
        self._run.log(numbers, step=number)

    def end(self, status: str) -> None:
        self._run.finish()


_BEGIN: Mapping[str, Callable[[str], Reports]] = {
    "mlflow": _MLflow,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
}
