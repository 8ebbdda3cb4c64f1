"""A database that an older Umbel left, with a run that its server did not finish: it goes on, and ends in the same bits."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from umbel.common import ndarrays_to_parameters
from umbel.errors import RunMismatch, StoreError
from umbel.rounds.coordinator import Coordinator, State
from umbel.runtime.contents import FileContents
from umbel.runtime.fingerprints import rules_of
from umbel.runtime.replay import replay
from umbel.runtime.resume import restore
from umbel.runtime.stores import tables
from umbel.runtime.stores.base import Snapshot
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server.strategy import FedAvg
from umbel.testing import run_locally
from umbel.training import NumPyClient

OLDER = Path(__file__).parent / "older"  # older/make.py writes them, with the Umbel of then


class Adds(NumPyClient):
    def __init__(self, step):
        self.step = step
        self.trained = []

    def fit(self, parameters, config):
        self.trained.append(parameters[0][0])
        return [array + self.step for array in parameters], 1, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {}


# Version → entries of its journal, of which so many come after its snapshot, with or without a digest of commands.
ENTRIES = {1: (16, [False] * 13), 2: (16, [False] * 13), 3: (15, [True] * 10), 4: (15, [True] * 10)}


@pytest.fixture(params=range(1, tables.SCHEMA_VERSION))
def version(request):
    return request.param


@pytest.fixture
def old(version, tmp_path):
    """The folder of an unfinished run, as that version left it."""
    source = OLDER / f"version_{version}"
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:
        connection.executescript((source / "runs.sql").read_text())
    (tmp_path / "old").mkdir()
    for name, data in json.loads((source / "contents.json").read_text()).items():
        (tmp_path / "old" / name).write_bytes(bytes.fromhex(data))
    return tmp_path


def opened(folder):
    return Database(f"sqlite:///{folder / 'runs.sqlite'}")


def test_an_unfinished_run_of_an_older_version_goes_on_and_ends_in_the_same_bits(old, version):
    with contextlib.closing(opened(old)) as database:
        (row,) = database.runs()
        assert (row.run, row.status, row.fingerprint["num_rounds"]) == ("old", "running", 3)
        store = SqlStore(database, "old", FileContents(old / "old"))
        stored = store.load()
        coordinator = Coordinator(rules_of("old", row.fingerprint), stored.state)
        assert [entry.recorded for entry in replay(coordinator, stored.entries)] == ENTRIES[version][1]
        assert (coordinator.state.round, coordinator.state.completed, len(coordinator.pending)) == (2, 1, 1)

        strategy = FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(3, "float32")]))
        clients = {"a": Adds(1.0), "b": Adds(3.0)}
        run = run_locally(strategy, clients, num_rounds=3, store=store, coordinator=coordinator)
        store.close()
    whole = run_locally(strategy, {"a": Adds(1.0), "b": Adds(3.0)}, num_rounds=3)
    assert run.arrays[0].tobytes() == whole.arrays[0].tobytes()
    assert clients["a"].trained == [4.0]  # its answer of round 2 was there
    assert clients["b"].trained == [2.0, 4.0]


def test_the_history_of_an_older_version_is_there_and_grows(old, version):
    with contextlib.closing(opened(old)) as database:
        (row,) = database.runs()
        store = SqlStore(database, "old", FileContents(old / "old"))
        found = restore(store.load(), rules_of("old", row.fingerprint), 3)
        assert found.history.losses_distributed == [(1, 6.0)]
        assert found.history.metrics_distributed_fit == {"step": [(1, 2.0)]}
        store.write([], Snapshot(found.coordinator.state, found.untold, found.at))
        store.close()
    with contextlib.closing(opened(old)) as database:
        assert database.snapshots("old")[-1].history == found.history


@pytest.mark.parametrize("version", [3])
def test_fewer_rounds_than_a_run_was_begun_with_are_said(old, caplog):
    with contextlib.closing(opened(old)) as database:
        (row,) = database.runs()
        store = SqlStore(database, "old", FileContents(old / "old"))
        found = restore(store.load(), rules_of("old", row.fingerprint), 1)
        store.close()
    assert found.coordinator.state.num_rounds == 3
    assert "num_rounds=1 is less than the 3 that this run was begun with: 1 are done, and it goes on to 3" in caplog.text


def test_the_whole_journal_of_an_older_version_can_be_replayed(old, version):
    with contextlib.closing(opened(old)) as database:
        (row,) = database.runs()
        coordinator = Coordinator(rules_of("old", row.fingerprint), State(num_rounds=3))
        assert len(list(replay(coordinator, database.entries("old")))) == ENTRIES[version][0]


def test_a_migration_that_dies_half_way_has_not_happened(old, version, monkeypatch):
    def dies(name):
        raise SystemExit(name)

    monkeypatch.setattr(tables, "failpoint", dies)
    with pytest.raises(SystemExit, match="migration"):
        opened(old)
    monkeypatch.undo()
    with contextlib.closing(opened(old)) as database:
        assert len(database.entries("old")) == ENTRIES[version][0]


def test_a_migrated_database_has_the_tables_of_a_new_one(old, tmp_path):
    (tmp_path / "new").mkdir()
    described = []
    for folder in (old, tmp_path / "new"):
        with contextlib.closing(opened(folder)) as database:
            inspector = sa.inspect(database.engine)
            described.append(
                {
                    table: [
                        [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
                        inspector.get_pk_constraint(table)["constrained_columns"],
                        [index["column_names"] for index in inspector.get_indexes(table)],
                    ]
                    for table in inspector.get_table_names()
                }
            )
    assert described[0] == described[1]


@pytest.mark.parametrize("version", [1])
def test_rules_that_nobody_knows_are_refused(old):
    with contextlib.closing(opened(old)) as database:
        (row,) = database.runs()
    with pytest.raises(RunMismatch, match="was made under rules that this Umbel does not know: 5 clients and a moon"):
        rules_of("old", {**row.fingerprint, "rules": "5 clients and a moon"})


@pytest.mark.parametrize("version", [1])
def test_a_version_that_never_was_is_refused(old):
    with contextlib.closing(sqlite3.connect(old / "runs.sqlite")) as connection:
        connection.execute("UPDATE umbel_meta SET schema_version = 0")
        connection.commit()
    with pytest.raises(StoreError, match="schema version 0 was never written by any Umbel"):
        opened(old)
