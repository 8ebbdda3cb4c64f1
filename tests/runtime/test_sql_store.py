"""The journal in SQLite: what was appended is there for the next process, and a replay tells the same story."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import sqlalchemy as sa

from umbel.common import ndarrays_to_parameters
from umbel.errors import RunLocked, StoreError
from umbel.events import RunEnded
from umbel.pace import Pace
from umbel.population import Population
from umbel.rounds.coordinator import Coordinator, Phase, Rules, State
from umbel.rounds.messages import (
    Failed,
    Failure,
    FailureKind,
    Joined,
    Publish,
    Replied,
    Reply,
    Settle,
    Started,
    Ticked,
    Verdict,
)
from umbel.rounds.notices import CentrallyEvaluated
from umbel.runtime.contents import FileContents
from umbel.runtime.observers.history import History
from umbel.runtime.stores import engine, sql
from umbel.runtime.stores.base import Entry, Keeping, Snapshot
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server.strategy import FedAvg, FedBuff
from umbel.testing import run_locally
from umbel.training import NumPyClient


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.system)])
def url(tmp_path, request):
    if request.param == "PostgreSQL":
        return request.getfixturevalue("postgres").database()
    return f"sqlite:///{tmp_path / 'runs.sqlite'}"


@pytest.fixture
def opened(url, tmp_path):
    """A function that opens the same run again, as a new process would when the one before has died."""
    stores = []

    def again(run="run-1", **keeping):
        for store in stores:
            if store._run == run:
                store._drop()  # a dead process has no connections
        contents = FileContents(tmp_path / run, digests=keeping.get("audit", False))
        stores.append(SqlStore(Database(url), run, contents, Keeping(**keeping)))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


def change(url, statement):
    """What somebody does to the database by hand."""
    database = Database(url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    database.close()


def loss(number):
    return CentrallyEvaluated(0.0, number, 0.5, {})


def rows(store):
    return [(kept.event, kept.at) for kept in store.load().entries]


def test_a_new_run_has_no_past(opened):
    stored = opened().load()
    assert (stored.state, stored.history, stored.at, list(stored.entries)) == (None, History(), 0.0, [])


def test_what_was_appended_is_there_for_the_next_process_without_any_goodbye(opened):
    first = opened()
    first.write([Entry(Started(), 0.0)])
    first.write([Entry(Joined("a"), 1.5)])
    assert rows(opened()) == [(Started(), 0.0), (Joined("a"), 1.5)]


def test_the_next_process_goes_on_numbering(opened):
    opened().write([Entry(Started(), 0.0)])
    opened().write([Entry(Joined("a"), 1.0)])
    opened().write([Entry(Joined("b"), 2.0)])
    assert [event for event, _ in rows(opened())] == [Started(), Joined("a"), Joined("b")]


def test_a_snapshot_replaces_the_journal_before_it(opened):
    store = opened()
    store.write([Entry(Started(), 0.0)])
    store.write([], Snapshot(State(num_rounds=3, phase=Phase.WAITING), [loss(1)], 0.0))
    store.write([Entry(Joined("a"), 1.0)])
    store.write([], Snapshot(State(num_rounds=3, phase=Phase.WAITING, pool=Population(3, {"a": None})), [loss(2)], 1.0))
    store.write([Entry(Ticked(), 2.0)])
    stored = opened().load()
    assert stored.state == State(num_rounds=3, phase=Phase.WAITING, pool=Population(3, {"a": None}))
    assert (stored.history.losses_centralized, stored.at) == ([(1, 0.5), (2, 0.5)], 1.0)
    assert [(kept.event, kept.at) for kept in stored.entries] == [(Ticked(), 2.0)]


def counted(task, reply, at):
    return Entry(Replied(task, reply), at, [Settle(task, Verdict.ACCEPTED)])


def test_runs_do_not_see_each_other(opened):
    one, two = opened("one"), opened("two")
    one.write([counted("task", Reply(), 0.0)])
    two.write([counted("task", Reply(), 0.0)])
    two.write([Entry(Joined("b"), 0.0)])
    assert len(rows(one)) == 1
    assert len(rows(two)) == 2


def test_a_reply_counts_once_whatever_the_code_above_believes(opened):
    store = opened()
    store.write([counted("task", Reply(1), 0.0)])
    with pytest.raises(StoreError, match="cannot write the journal of run run-1"):
        store.write([counted("task", Reply(2), 1.0)])
    store.write([Entry(Joined("a"), 2.0)])
    assert [event for event, _ in rows(opened())] == [Replied("task", Reply(1)), Joined("a")]


def test_a_failure_may_be_reported_again(opened):
    store = opened()
    for _ in range(2):
        store.write([Entry(Failed("task", Failure(FailureKind.RAISED, "no")), 0.0)])
    assert len(rows(store)) == 2


def test_which_replies_were_accepted_outlives_the_process_and_the_snapshot(opened):
    store = opened()
    store.write([counted("task", Reply(), 0.0)])
    store.write([], Snapshot(State(num_rounds=1), [], 0.0))
    again = opened()
    assert again.accepted("task")
    assert not again.accepted("another")


def test_a_reply_that_came_too_late_was_not_accepted_and_may_come_again(opened):
    store = opened()
    for at in (0.0, 1.0):
        store.write([Entry(Replied("task", Reply()), at, [Settle("task", Verdict.STALE, "the round closed")])])
    assert len(rows(store)) == 2
    assert not opened().accepted("task")


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


def test_a_database_of_a_newer_version_is_left_alone(url):
    change(url, "UPDATE umbel_meta SET schema_version = 99")
    with pytest.raises(StoreError, match="has schema version 99, this Umbel writes 5; use the Umbel that wrote it"):
        Database(url)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "runs.sqlite").write_bytes(b"These are not the rows you are looking for. " * 100)
    with pytest.raises(StoreError, match="cannot open the run database"):
        Database(f"sqlite:///{tmp_path / 'runs.sqlite'}")


def test_a_row_that_somebody_changed_is_a_store_error(opened, url):
    store = opened()
    store.write([Entry(Joined("a"), 0.0)])
    change(url, "UPDATE umbel_journal SET body = " + ("'\\xc1'" if url.startswith("postgres") else "x'c1'"))
    with pytest.raises(StoreError, match="is damaged: entry 1 of run run-1 is not what was written"):
        rows(store)


def test_a_snapshot_writes_what_has_come_to_the_history_and_not_the_history(opened, url):
    store = opened()
    for number in range(1, 101):
        store.write([Entry(Joined(f"client {number}"), 0.0)], Snapshot(State(num_rounds=100), [loss(number)], 0.0))
    assert opened().load().history.losses_centralized == [(number, 0.5) for number in range(1, 101)]
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        sizes = connection.exec_driver_sql("SELECT length(body) FROM umbel_history ORDER BY number").scalars().all()
    assert len(sizes) == 100
    assert max(sizes) < 2 * min(sizes)


DAMAGE = {
    "a run": ("UPDATE umbel_runs SET created = created + 1", "the row of run run-1 is not what was written"),
    "a snapshot": (
        "UPDATE umbel_snapshots SET at = at + 1",
        "the snapshot after entry 2 of run run-1 is not what was written",
    ),
    "an entry": ("UPDATE umbel_journal SET at = at + 1 WHERE seq = 3", "entry 3 of run run-1 is not what was written"),
    "an entry that is gone": ("DELETE FROM umbel_journal WHERE seq = 3", "the journal of run run-1 lacks number 3"),
    "the History": ("UPDATE umbel_history SET number = 7", "the History of run run-1 lacks number 1"),
    "a row of the History": (
        "UPDATE umbel_history SET whole = NOT whole",
        "row 1 of the History of run run-1 is not what was written",
    ),
}


@pytest.mark.parametrize(("statement", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_row_that_is_not_what_was_written_is_named_with_the_database_and_the_remedy(opened, url, statement, words):
    with contextlib.closing(Database(url)) as database:
        database.add("run-1", {"seed": 1})
        store = opened()
        store.write([Entry(Started(), 0.0), Entry(Joined("a"), 0.0)], Snapshot(State(num_rounds=1), [loss(1)], 0.0))
        store.write([Entry(Joined("b"), 0.0), Entry(Joined("c"), 0.0)])
        change(url, statement)
        with pytest.raises(StoreError, match=f"the run database .* is damaged: {words}. Put back a copy of it"):
            (database.runs(), store.load())


# ---- retention


def played(store, rounds, *, first=1):
    """Three entries per round, and a snapshot after each."""
    for number in range(first, first + rounds):
        entries = [Entry(Joined(f"client {number}"), number + part / 10) for part in range(3)]
        store.write(entries, Snapshot(State(num_rounds=10**6, completed=number), [], float(number)))


def kept(url, run="run-1"):
    """First and last entry, and the last entries of the snapshots."""
    database = Database(url)
    entries = [entry.seq for entry in database.entries(run)]
    snapshots = [snapshot.seq for snapshot in database.snapshots(run)]
    database.close()
    return (entries[0], entries[-1]), snapshots


def test_the_journal_keeps_as_many_rounds_as_it_is_told_and_at_most_twice_as_many(opened, url):
    store = opened(rounds=5)
    played(store, 9)
    assert kept(url) == ((1, 27), [15, 27])
    played(store, 1, first=10)
    assert kept(url) == ((16, 30), [15, 30])
    played(store, 90, first=11)
    (first, last), snapshots = kept(url)
    assert last == 300
    assert 5 * 3 <= last - first + 1 <= 2 * 5 * 3
    assert snapshots[0] == first - 1  # the state that what is kept begins with
    assert len(snapshots) <= 3


def test_a_journal_is_trimmed_by_the_next_process_too(opened, url):
    for first in range(1, 60, 3):
        played(opened(rounds=5), 3, first=first)
    (first, last), snapshots = kept(url)
    assert last == 180
    assert last - first + 1 <= 2 * 5 * 3
    assert snapshots[0] == first - 1
    assert len(snapshots) <= 3


def test_a_journal_may_be_kept_whole(opened, url):
    played(opened(rounds=None), 30)
    assert kept(url) == ((1, 90), [90])


def test_numbering_goes_on_where_all_entries_were_trimmed(opened, url):
    played(opened(), 2)
    change(url, "DELETE FROM umbel_journal")
    played(opened(), 1, first=3)
    assert kept(url) == ((7, 9), [9])


# ---- who else is there


def test_a_second_coordinator_that_got_past_the_locks_cannot_write(opened, url, tmp_path):
    first = opened()
    first.write([Entry(Started(), 0.0)])
    first._drop()  # its lock is lost, and it does not know
    second = SqlStore(Database(url), "run-1", FileContents(tmp_path / "run-1"))
    second.write([Entry(Joined("of the second"), 1.0)])
    second.close()
    with pytest.raises(RunLocked, match=r"another process has written to the journal of run run-1.*this process must stop"):
        first.write([Entry(Joined("of the first"), 1.0)])
    assert [event for event, _ in rows(opened())] == [Started(), Joined("of the second")]


def test_where_the_database_has_locks_a_second_coordinator_is_refused(opened, url, tmp_path, monkeypatch):
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has no lock for a run: the lock of its folder is tested in test_runs")
    monkeypatch.setattr(engine, "LOCK_WAIT", 0.2)
    opened()
    with contextlib.closing(Database(url)) as database:
        with pytest.raises(RunLocked, match="another process coordinates run run-1"):
            SqlStore(database, "run-1", FileContents(tmp_path / "elsewhere"))
        SqlStore(database, "run-2", FileContents(tmp_path / "run-2")).close()


def test_a_commit_that_came_through_although_its_answer_was_lost_is_not_written_again(opened, monkeypatch):
    store = opened()
    store.write([Entry(Started(), 0.0)])
    commit, lost = sa.Connection.commit, []

    def commits_and_breaks(connection):
        commit(connection)
        if not lost:
            lost.append(True)
            raise sa.exc.OperationalError("COMMIT", {}, ConnectionError("the server closed the connection"))

    monkeypatch.setattr(sa.Connection, "commit", commits_and_breaks)
    monkeypatch.setattr(sql, "lock_run", lambda connection, run: None)  # it commits, too
    store.write([Entry(Joined("a"), 1.0)])
    store.write([Entry(Joined("b"), 2.0)])
    monkeypatch.undo()
    assert lost
    assert [event for event, _ in rows(opened())] == [Started(), Joined("a"), Joined("b")]


def test_a_database_that_refuses_for_good_is_given_up_with_a_word(opened, url):
    store = opened(patience=0.3)
    change(url, "ALTER TABLE umbel_journal RENAME TO elsewhere")
    with pytest.raises(StoreError, match="cannot write the journal of run run-1: "):
        store.write([Entry(Started(), 0.0)])
    change(url, "ALTER TABLE elsewhere RENAME TO umbel_journal")
    store.write([Entry(Started(), 0.0)])
    assert rows(store) == [(Started(), 0.0)]


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


class Impatient(FedAvg):
    pace = Pace(quorum=1, retries=0)


class Broken(NumPyClient):
    def fit(self, parameters, config):
        raise ValueError("never")


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
    for (_, event, at, _), (_, live_at, live) in zip(reader.load().entries, run.coordinator.said, strict=True):
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
    again, history = Coordinator(run.coordinator.rules, stored.state), stored.history
    for entry in stored.entries:
        for command in again.handle(entry.event, entry.at):
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


def test_a_run_that_dies_anywhere_and_goes_on_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("umbel.runtime.run.TOGETHER", 1)  # each input is written by itself: it dies between any two

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
        for entry in stored.entries:
            coordinator.handle(entry.event, entry.at)
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


def test_a_run_that_ends_while_clients_are_still_at_work_keeps_no_version_but_the_last(tmp_path):
    store = SqlStore(Database(f"sqlite:///{tmp_path / 'runs.sqlite'}"), "run", FileContents(tmp_path))
    first = ndarrays_to_parameters([np.zeros(4, "float32")])
    strategy = FedBuff(
        buffer_size=2, concurrency=3, initial_parameters=first, on_fit_config_fn=lambda number: {"round": number}
    )
    run = run_locally(strategy, {f"c{step}": Learner(step) for step in (1, 2, 3)}, num_rounds=3, store=store)
    finished = run.coordinator.state
    assert store.load().state == finished
    store.close()
    assert finished.version == 3
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model-000003.safetensors"]


def test_a_run_that_has_ended_says_so_again_in_the_next_process(tmp_path):
    """As it ended: by an error, too."""
    seen = []
    for _ in range(2):
        store = SqlStore(Database(f"sqlite:///{tmp_path / 'runs.sqlite'}"), "run", FileContents(tmp_path))
        stored = store.load()
        strategy = Impatient(initial_parameters=ndarrays_to_parameters([np.zeros(4, "float32")]))
        rules = Rules(run="run", min_available=2, pace=strategy.pace)
        coordinator = Coordinator(rules, stored.state or State(num_rounds=3))
        run = run_locally(strategy, {"a": Broken(), "b": Broken()}, num_rounds=3, store=store, coordinator=coordinator)
        seen.append([event for event in run.events if isinstance(event, RunEnded)])
        store.close()
    assert seen[0] == seen[1]
    assert [event.status for event in seen[0]] == ["failed"]
    assert run.coordinator.state.ended.error == "QuorumNotMet"
