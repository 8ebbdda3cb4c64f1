"""The journal in SQLite: what was appended is there for the next process, and a replay tells the same story."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import StoreError
from umbel.population import Population
from umbel.rounds.coordinator import Coordinator, Phase, Rules, State
from umbel.rounds.messages import Failed, Failure, FailureKind, Joined, Publish, Replied, Reply, Started, Ticked
from umbel.runtime.contents import FileContents
from umbel.runtime.observers.history import History
from umbel.runtime.stores.base import Snapshot
from umbel.runtime.stores.sql import Database, SqlStore
from umbel.server.strategy import FedAvg
from umbel.testing import run_locally
from umbel.training import NumPyClient


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'runs.sqlite'}"


@pytest.fixture
def opened(url, tmp_path):
    """A function that opens the same run again, as a new process would; nothing is closed before the end."""
    stores = []

    def again(run="run-1"):
        stores.append(SqlStore(Database(url), run, FileContents(tmp_path / run)))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


def rows(store):
    return list(store.load().entries)


def test_a_new_run_has_no_past(opened):
    stored = opened().load()
    assert (stored.state, stored.history, stored.at, list(stored.entries)) == (None, b"", 0.0, [])


def test_what_was_appended_is_there_for_the_next_process_without_any_goodbye(opened):
    first = opened()
    first.write([(Started(), 0.0)])
    first.write([(Joined("a"), 1.5)])
    assert rows(opened()) == [(Started(), 0.0), (Joined("a"), 1.5)]


def test_the_next_process_goes_on_numbering(opened):
    opened().write([(Started(), 0.0)])
    opened().write([(Joined("a"), 1.0)])
    opened().write([(Joined("b"), 2.0)])
    assert [event for event, _ in rows(opened())] == [Started(), Joined("a"), Joined("b")]


def test_a_snapshot_replaces_the_journal_before_it(opened):
    store = opened()
    store.write([(Started(), 0.0)])
    store.write([], Snapshot(State(num_rounds=3, phase=Phase.WAITING), b"history 1", 0.0))
    store.write([(Joined("a"), 1.0)])
    store.write([], Snapshot(State(num_rounds=3, phase=Phase.WAITING, pool=Population(3, {"a": None})), b"history 2", 1.0))
    store.write([(Ticked(), 2.0)])
    stored = opened().load()
    assert stored.state == State(num_rounds=3, phase=Phase.WAITING, pool=Population(3, {"a": None}))
    assert (stored.history, stored.at) == (b"history 2", 1.0)
    assert list(stored.entries) == [(Ticked(), 2.0)]


def test_runs_do_not_see_each_other(opened):
    one, two = opened("one"), opened("two")
    one.write([(Replied("task", Reply()), 0.0)])
    two.write([(Replied("task", Reply()), 0.0)])
    two.write([(Joined("b"), 0.0)])
    assert len(rows(one)) == 1
    assert len(rows(two)) == 2


def test_a_reply_counts_once_whatever_the_code_above_believes(opened):
    store = opened()
    store.write([(Replied("task", Reply(1)), 0.0)])
    with pytest.raises(StoreError, match="cannot write the journal of run run-1"):
        store.write([(Replied("task", Reply(2)), 1.0)])
    store.write([(Joined("a"), 2.0)])
    assert [event for event, _ in rows(opened())] == [Replied("task", Reply(1)), Joined("a")]


def test_a_failure_may_be_reported_again(opened):
    store = opened()
    for _ in range(2):
        store.write([(Failed("task", Failure(FailureKind.RAISED, "no")), 0.0)])
    assert len(rows(store)) == 2


def test_which_replies_were_accepted_outlives_the_process_and_the_snapshot(opened):
    store = opened()
    store.write([(Replied("task", Reply()), 0.0)])
    store.write([], Snapshot(State(num_rounds=1), b"", 0.0))
    again = opened()
    assert again.accepted("task")
    assert not again.accepted("another")


def test_runs_are_listed_with_their_end(url, opened):
    database = Database(url)
    database.add("run-1", {"seed": 3})
    database.add("run-2", {})
    opened("run-1").finish("finished")
    assert {row.run: (row.status, row.fingerprint) for row in database.runs()} == {
        "run-1": ("finished", {"seed": 3}),
        "run-2": ("running", {}),
    }
    database.close()


def test_a_database_of_another_version_is_left_alone(url, tmp_path):
    Database(url).close()
    connection = sqlite3.connect(tmp_path / "runs.sqlite")
    connection.execute("UPDATE umbel_meta SET schema_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="has schema version 99, this Umbel writes 2; use the Umbel that wrote it"):
        Database(url)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "runs.sqlite").write_bytes(b"These are not the rows you are looking for. " * 100)
    with pytest.raises(StoreError, match="cannot open the run database"):
        Database(f"sqlite:///{tmp_path / 'runs.sqlite'}")


def test_a_row_that_somebody_changed_is_a_store_error(opened, tmp_path):
    store = opened()
    store.write([(Joined("a"), 0.0)])
    connection = sqlite3.connect(tmp_path / "runs.sqlite")
    connection.execute("UPDATE umbel_journal SET body = x'c1'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="a journal row of type 'Joined' cannot be read"):
        rows(store)


# ---- replay


class Journaled(SqlStore):
    """Keeps its journal whole: with a snapshot the rows before it would not be read again."""

    def write(self, entries, snapshot=None):
        super().write(entries)


class Learner(NumPyClient):
    def __init__(self, step):
        self.step = step

    def fit(self, parameters, config):
        if config["round"] == 2 and self.step == 2:
            raise ValueError("no")
        return [a + self.step / 3 for a in parameters], self.step, {"step": self.step / 3}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), self.step, {}


class Recorder(Coordinator):
    """Keeps what it said."""

    def __init__(self, rules, state):
        super().__init__(rules, state)
        self.said = []

    def handle(self, event, at):
        self.said.append((event, at, super().handle(event, at)))
        return self.said[-1][2]


def journaled_run(store, rounds=3):
    strategy = FedAvg(
        initial_parameters=ndarrays_to_parameters([np.zeros(4, "float32")]),
        on_fit_config_fn=lambda number: {"round": number},
        evaluate_fn=lambda number, arrays, _: (np.float32(number), {"sum": arrays[0].sum(), "odd": {1: 2}, "n": number}),
        fit_metrics_aggregation_fn=lambda sent: {1: sent[0][0], "many": [count for count, _ in sent]},
    )
    rules = Rules(run="run", min_available=3, pace=strategy.pace)
    recorder = Recorder(rules, State(num_rounds=rounds))
    clients = {f"c{step}": Learner(step) for step in (1, 2, 3)}
    return run_locally(strategy, clients, num_rounds=rounds, store=store, coordinator=recorder)


def test_a_replayed_journal_gives_the_same_commands_and_the_same_history(url, tmp_path):
    store = Journaled(Database(url), "run", FileContents(tmp_path / "run"))
    run = journaled_run(store)
    store.close()

    reader = SqlStore(Database(url), "run", FileContents(tmp_path / "run"))
    again = Coordinator(run.coordinator.rules, State(num_rounds=3))
    history = History()
    for (event, at), (_, live_at, live) in zip(reader.load().entries, run.coordinator.said, strict=True):
        commands = again.handle(event, at)
        assert at == live_at
        assert commands == live
        for command in commands:
            if isinstance(command, Publish):
                history.observe(command.event)
    reader.close()
    assert again.state == run.coordinator.state
    assert history == run.history


def test_a_run_from_its_snapshot_and_the_rest_of_the_journal_is_the_same_run(url, tmp_path):
    store = SqlStore(Database(url), "run", FileContents(tmp_path / "run"))
    run = journaled_run(store)
    stored = store.load()
    again, history = Coordinator(run.coordinator.rules, stored.state), History.from_bytes(stored.history)
    for event, at in stored.entries:
        for command in again.handle(event, at):
            if isinstance(command, Publish):
                history.observe(command.event)
    store.close()
    assert again.state == run.coordinator.state
    assert history == run.history


class Dying(SqlStore):
    """The power fails before the n-th writing to the journal."""

    left = 0

    def write(self, entries, snapshot=None):
        self.left -= 1
        if self.left < 0:
            raise SystemExit("power failure")
        super().write(entries, snapshot)


def test_a_run_that_dies_anywhere_and_goes_on_ends_with_the_same_bits(tmp_path):
    def attempt(folder, left):
        database = Database(f"sqlite:///{folder / 'runs.sqlite'}")
        store = Dying(database, "run", FileContents(folder))
        store.left = left
        stored = store.load()
        strategy = FedAvg(
            initial_parameters=ndarrays_to_parameters([np.zeros(4, "float32")]),
            on_fit_config_fn=lambda number: {"round": number},
        )
        rules = Rules(run="run", min_available=3, pace=strategy.pace)
        coordinator = Coordinator(rules, stored.state or State(num_rounds=3))
        for event, at in stored.entries:
            coordinator.handle(event, at)
        clients = {f"c{step}": Learner(step) for step in (1, 2, 3)}
        try:
            return run_locally(strategy, clients, num_rounds=3, store=store, coordinator=coordinator)
        except SystemExit:
            return None
        finally:
            store.close()

    def bits(run):
        return [a.tobytes() for a in run.arrays]

    (tmp_path / "whole").mkdir()
    whole = bits(attempt(tmp_path / "whole", 10**9))
    for left in range(3, 40, 4):
        folder = tmp_path / str(left)
        folder.mkdir()
        deaths, run = 0, attempt(folder, left)
        while run is None:
            deaths, run = deaths + 1, attempt(folder, left + 4)
        assert bits(run) == whole
        assert deaths or left > 15
