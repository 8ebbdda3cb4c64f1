"""Writes a run that an earlier Umbel left unfinished: python make.py, with that Umbel on the path.

Its server died when one of two clients had answered round 2. The test resumes it with the present Umbel.
"""

import contextlib
import json
import sqlite3
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from umbel.common import ndarrays_to_parameters
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.database import SCHEMA_VERSION, Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server.strategy import FedAvg
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Adds(NumPyClient):
    def __init__(self, step):
        self.step = step

    def fit(self, parameters, config):
        return [array + self.step for array in parameters], 1, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {}


class Dies(SqlStore):
    def write(self, entries, snapshot=None):
        super().write(entries, snapshot if not self.replies() else None)
        if self.replies() == 5:  # 2 fits and 2 evaluations of round 1, and one fit of round 2
            raise SystemExit

    def replies(self):
        query = "SELECT count(*) FROM umbel_journal WHERE type IN ('Replied', 'Reported')"
        return self._connection.exec_driver_sql(query).scalar()


def main():
    out = Path(__file__).parent / f"version_{SCHEMA_VERSION}"
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/runs.sqlite")
        strategy = FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(3, "float32")]))
        rules = Rules(run="old", min_available=2, pace=strategy.pace)
        kept = {"min_available": 2, "pace": asdict(strategy.pace)}
        database.add("old", {"script": "/srv/server.py", "num_rounds": 3, "rules": kept})
        store = Dies(database, "old", FileContents(Path(folder) / "run"))
        coordinator = Coordinator(rules, State(num_rounds=3))
        with contextlib.suppress(SystemExit):
            run_locally(strategy, {"a": Adds(1.0), "b": Adds(3.0)}, num_rounds=3, store=store, coordinator=coordinator)
        store.close()
        connection = sqlite3.connect(f"{folder}/runs.sqlite")
        dump = "\n".join(connection.iterdump()) + "\n"
        files = {path.name: path.read_bytes().hex() for path in sorted(Path(folder, "run").iterdir())}
        connection.close()
    (out / "runs.sql").write_text(dump)
    (out / "contents.json").write_text(json.dumps(files, indent=1) + "\n")


if __name__ == "__main__":
    main()
