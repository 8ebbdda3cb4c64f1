"""report_to= with the trackers' own libraries, offline: each round once, also where a run is killed and goes on."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks

PROGRAM = '''
import os, signal, sys
import numpy as np
import umbel as fl


class Adds(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(2)]

    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        return 1 / (1 + float(parameters[0][0])), 1, {"accuracy": 0.5, "site": "north"}


def dies(number, arrays, config):
    if number == 4 and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.25, {}


fl.simulation.start_simulation(
    client_fn=lambda context: Adds(),
    num_clients=2,
    config=fl.server.ServerConfig(num_rounds=6),
    strategy=fl.server.strategy.FedAvg(evaluate_fn=dies),
    backend="inline",
    store="store",
    report_to=sys.argv[1],
)
'''


def mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"file:{folder}/mlruns")
    (run,) = client.search_runs([client.get_experiment_by_name("umbel").experiment_id])
    assert run.info.status == "FINISHED"
    assert sorted(run.data.metrics) == ["accuracy", "central loss", "loss"]
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "runs").iterdir()
    found = EventAccumulator(str(run)).Reload()
    assert sorted(found.Tags()["scalars"]) == ["accuracy", "central loss", "loss"]
    return [(event.step, event.value) for event in found.Scalars("loss")]


def trackio(folder):
    code = (
        "import trackio, json; s = trackio.SQLiteStorage; (run,) = s.get_runs('umbel');"
        "print(json.dumps([[e['step'], e['loss']] for e in s.get_logs('umbel', run) if 'loss' in e]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=place(folder), capture_output=True, text=True, check=True)
    return [(step, loss) for step, loss in json.loads(done.stdout.splitlines()[-1])]


def wandb(folder):
    """Offline each part has a file of its own; `wandb sync` puts them together by the run's id and the step."""
    from wandb.proto.wandb_internal_pb2 import Record

    parts = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    found: dict[int, float] = {}
    for path in parts:
        for data in records(path.read_bytes()):
            history = Record.FromString(data).history
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in history.item}
            if "loss" in row:
                step = row.get("_step", history.step.num)
                assert found.setdefault(step, row["loss"]) == row["loss"]
    assert len({path.stem for path in parts}) == 1  # one id
    return sorted(found.items())


def records(data):
    """The records of a log as LevelDB has it: blocks of 32 KiB, and pieces with crc, length and type (1: whole, 4: last)."""
    at, whole = 7, b""  # after the file's own header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


def place(folder):
    tracked = {"MLFLOW_TRACKING_URI": f"file:{folder}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_MODE": "offline"}
    return {**os.environ, **tracked, "TRACKIO_DIR": str(folder / "trackio"), "WANDB_SILENT": "true"}


@pytest.mark.parametrize("read", [mlflow, tensorboard, trackio, wandb])
def test_a_killed_run_has_each_round_once_in_its_tracker(read, tmp_path, monkeypatch):
    pytest.importorskip(read.__name__)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (tmp_path / "program.py").write_text(PROGRAM)
    ends = [
        subprocess.run(
            [sys.executable, "program.py", read.__name__],
            cwd=tmp_path,
            env={**place(tmp_path), "PYTHONPATH": str(Path(importlib.import_module("umbel").__path__[0]).parent)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for _ in range(2)
    ]
    assert [end.returncode for end in ends] == [-signal.SIGKILL, 0], ends[1].stderr
    assert "it is told nothing more" not in ends[1].stderr
    reported = read(tmp_path)
    assert [number for number, _ in reported] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in reported] == pytest.approx([1 / (1 + number) for number in range(1, 7)])
