"""`umbel replay` and `umbel audit`: what a run did is what its journal says, and whoever changes either is found out."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from umbel.cli.main import main
from umbel.common import ndarrays_to_parameters
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import Joined, Replied, Reply, Reported
from umbel.rounds.notices import CentrallyEvaluated
from umbel.runtime import run as loop
from umbel.runtime.contents import FileContents
from umbel.runtime.fingerprints import fingerprint
from umbel.runtime.stores.base import Entry, Keeping
from umbel.runtime.stores.codec import encode, encode_notices
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server.strategy import FedAvg
from umbel.strategies.classic.adapter import host_of
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Adds(NumPyClient):
    def __init__(self, step, fails_in=None):
        self.step, self.fails_in = step, fails_in

    def fit(self, parameters, config):
        if config["round"] == self.fails_in:
            raise RuntimeError("no data today")
        return [array + self.step for array in parameters], 3, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 3, {}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "umbel-runs"


@pytest.fixture
def made(folder, monkeypatch):
    """`made(number of rounds, **keeping)`: a finished run of two clients, of which one fails in round 2."""
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 0.0)
    monkeypatch.setattr(loop, "SNAPSHOT_PAUSE", 0.0)

    def make(number=3, **keeping):
        keeping = Keeping(**{"audit": True, "rounds": None, **keeping})
        folder.mkdir()
        database = Database(f"sqlite:///{folder / 'runs.sqlite'}")
        strategy = FedAvg(
            initial_parameters=ndarrays_to_parameters([np.zeros(3, "float32")]),
            on_fit_config_fn=lambda number: {"round": number},
        )
        database.add("run", fingerprint(host_of(strategy).declared, strategy.pace, seed=0, num_rounds=number, port=1))
        store = SqlStore(database, "run", FileContents(folder / "run", digests=True), keeping)
        rules = Rules(run="run", min_available=2, pace=strategy.pace)
        coordinator = Coordinator(rules, State(num_rounds=number))
        clients = {"a": Adds(1.0), "b": Adds(3.0, fails_in=2)}
        run_locally(strategy, clients, num_rounds=number, store=store, coordinator=coordinator)
        store.finish("finished")
        head = store.head
        store.close()
        return "" if head is None else head.hex()

    return make


def umbel(folder, *words):
    result = CliRunner().invoke(main, [*words, "run", "--store", str(folder)])
    return result.exit_code, result.output


def change(folder, statement, **values):
    engine = sa.create_engine(f"sqlite:///{folder / 'runs.sqlite'}")
    with engine.begin() as connection:
        assert connection.execute(sa.text(statement), values).rowcount >= 1
    engine.dispose()


# ---- replay


def test_a_replay_finds_every_command_as_it_was(folder, made):
    made()
    code, words = umbel(folder, "replay")
    assert re.fullmatch(r"\d+ entries and 1 snapshots: every command as it was; round 3, phase done\n", words)
    assert code == 0


def test_a_replay_shows_one_round(folder, made):
    made()
    code, words = umbel(folder, "replay", "--round", "2")
    assert code == 0
    assert "Reported(replies=(('run.2.fit.0.0'," in words
    assert "Settle(task='run.2.fit.0.1', verdict=<Verdict.NOTED: 'noted'>" in words
    assert "run.1.fit" not in words
    assert "run.3.fit" not in words


FIRST = "(SELECT min(seq) FROM umbel_journal WHERE type = 'Reported')"
CHANGES = {  # by somebody who knows of the checks of rows, but for the last
    "another number of examples": (
        f"UPDATE umbel_journal SET body = :body, checked = NULL WHERE seq = {FIRST}",
        {"body": encode(Reported((("run.1.fit.0.0", Reply(1000, 0.0, {"step": 1.0}, "content")),)))},
        r"entry \d+ \(\w+, round 1\) of run run: in phase \w+ it now leads to other commands than then",
    ),
    "a client that never was": (
        "UPDATE umbel_journal SET body = :body, checked = NULL WHERE type = 'Populated'",
        {"body": b"\x82\xa8numbered\x00\xa5names\x93\xa1a\xa1b\xa1c"},
        r"entry \d+ \(Populated, round \d\) of run run: .* it now leads to other commands than then",
    ),
    "an entry taken out": (
        "DELETE FROM umbel_journal WHERE type = 'Stepped'",
        {},
        r"is damaged: the journal of run run lacks number \d+",
    ),
    "another snapshot": (
        "UPDATE umbel_snapshots SET state = :state, checked = NULL",
        {"state": encode(State(num_rounds=3))},
        r"after entry \d+ the state is not the one in the snapshot",
    ),
    "another loss": (
        "UPDATE umbel_history SET body = :body, checked = NULL WHERE number = 1",
        {"body": encode_notices([CentrallyEvaluated(0.0, 0, 0.5, {})])},
        r"after entry \d+ the History is not the one in the snapshot",
    ),
    "a number, and not its check": (
        f"UPDATE umbel_journal SET at = at + 1 WHERE seq = {FIRST}",
        {},
        r"is damaged: entry \d+ of run run is not what was written. Put back a copy of it",
    ),
}


@pytest.mark.parametrize(("statement", "values", "words"), CHANGES.values(), ids=CHANGES.keys())
def test_a_replay_stops_at_the_first_thing_that_somebody_changed(folder, made, statement, values, words):
    made()
    change(folder, statement, **values)
    code, said = umbel(folder, "replay")
    assert code == 1
    assert re.search(words, said)
    assert "every command as it was" not in said


def test_a_replay_of_a_trimmed_journal_says_from_where(folder, made):
    made(9, rounds=2)
    code, words = umbel(folder, "replay")
    assert code == 0
    assert re.search(r"The journal was trimmed: it begins after round \d, with entry \d+", words)
    assert "every command as it was; round 9, phase done" in words


# ---- audit


def test_an_audit_has_a_line_for_everything_that_was_sent(folder, made):
    made()
    code, words = umbel(folder, "audit", "show")
    assert code == 0
    said = [line.split()[2:5] for line in words.splitlines()]
    assert [line for line in said if line[1] == "run.2.fit.0.1"] == [["b", "run.2.fit.0.1", "noted"]]
    accepted = [line for line in said if line[2] == "accepted"]
    assert sorted({client for client, _, _ in accepted}) == ["a", "b"]
    assert len(accepted) == 3 * 2 * 2 - 1
    assert sum(line[2] == "version" for line in said) == 4
    assert "no data today" in words


def test_an_audit_that_nobody_touched_is_verified_up_to_the_model(folder, made):
    head = made()
    code, words = umbel(folder, "audit", "verify", "--head", head)
    assert code == 0
    assert f"unbroken; the last hash is {head}" in words
    assert "model-000003.safetensors is the version that was made" in words


AUDIT_CHANGES = {  # by somebody who knows of the checks of rows, but for the last
    "another client": ("UPDATE umbel_audit SET client = 'c' WHERE number = 4", "line 4 .* is not what was written"),
    "another digest": ("UPDATE umbel_audit SET content = x'00' WHERE number = 4", "line 4 .* is not what was written"),
    "a line taken out": ("DELETE FROM umbel_audit WHERE number = 4", "after line 3 comes line 5"),
    "the last line taken out": (
        "DELETE FROM umbel_audit WHERE number = (SELECT max(number) FROM umbel_audit)",
        "the audit and the journal disagree at entry|lines are missing at the end",
    ),
    "a journal entry taken out": (
        f"DELETE FROM umbel_journal WHERE seq = {FIRST}",
        r"the journal of run run lacks number \d+",
    ),
}


@pytest.mark.parametrize(("statement", "words"), AUDIT_CHANGES.values(), ids=AUDIT_CHANGES.keys())
def test_an_audit_that_somebody_changed_is_found_out(folder, made, statement, words):
    head = made()
    change(folder, statement)
    code, said = umbel(folder, "audit", "verify", "--head", head)
    assert code == 1
    assert re.search(words, said)


def test_a_model_that_somebody_changed_is_found_out(folder, made):
    made()
    model = folder / "run" / "model-000003.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x42")
    code, said = umbel(folder, "audit", "verify")
    assert code == 1
    assert "is not the version 3 that was made" in said


def test_the_chain_goes_on_in_the_next_process(folder, made):
    made()
    with contextlib.closing(Database(f"sqlite:///{folder / 'runs.sqlite'}")) as database:
        store = SqlStore(database, "run", FileContents(folder / "run", digests=True), Keeping(audit=True, rounds=None))
        store.write([Entry(Replied("run.9.fit.0.0", Reply(1)), 9.0), Entry(Joined("c"), 9.0)])
        head = store.head.hex()
        store._drop()
    code, said = umbel(folder, "audit", "verify", "--head", head)
    assert (code, "unbroken" in said) == (0, True)


def test_without_an_audit_there_is_nothing_to_verify(folder, made):
    assert made(audit=False) == ""
    code, said = umbel(folder, "audit", "verify")
    assert code == 1
    assert "run run has no audit; start_server(audit=True) keeps one" in said
    assert umbel(folder, "replay")[0] == 0


@pytest.mark.parametrize("words", [("replay",), ("audit", "verify"), ("audit", "show")])
def test_a_run_or_a_store_that_is_not_there_is_named(tmp_path, folder, made, words):
    code, said = umbel(tmp_path / "nowhere", *words)
    assert (code, "no runs are kept in" in said) == (1, True)
    made()
    change(folder, "UPDATE umbel_runs SET run = 'other', checked = NULL")
    code, said = umbel(folder, *words)
    assert (code, "there is no run 'run'" in said) == (1, True)
