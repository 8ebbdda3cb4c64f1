"""Which run is this: the one that ended uncleanly, or a new one? And who holds it?"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import struct
import sys

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import RunLocked, RunMismatch, StoreError, StrategyError
from umbel.rounds.coordinator import Rules
from umbel.rounds.exchanges import FIT
from umbel.rounds.messages import Joined, Replied, Reply, Started
from umbel.runtime import run_registry
from umbel.runtime.fingerprints import ATTRIBUTES, differences, fingerprint, rules_of
from umbel.runtime.run_registry import open_run
from umbel.runtime.stores.base import Entry, Keeping
from umbel.server.strategy import FedAvg, FedBuff, PowerOfChoice
from umbel.strategies.classic.adapter import host_of
from umbel.transforms import clip


def mine(strategy=None, *, seed=0, port=8080, num_rounds=3, timeout=None):
    strategy = strategy or FedAvg()
    declared, pace = host_of(strategy).declared, strategy.pace.within(timeout)
    return fingerprint(declared, pace, seed=seed, port=port, num_rounds=num_rounds)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "umbel-runs"


@pytest.fixture
def again(monkeypatch):
    """Called, what follows happens in a new process of the same script: its starts are counted anew."""
    return lambda: monkeypatch.setattr("umbel.runtime.fingerprints._starts", itertools.count(1))


@pytest.fixture
def script(tmp_path, monkeypatch, again):
    """This process is the script `server.py`, from its beginning."""
    again()
    path = tmp_path / "server.py"
    path.write_text("print('hello')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path), raising=False)
    return path


def started(folder, *, fresh=False, **changes):
    """A server that opened a run, journaled its start and died."""
    opened = open_run(folder, mine(**changes), fresh=fresh)
    opened.store.write([Entry(Started(), 0.0)])
    name = opened.run
    opened.close()
    return name


def test_nothing_is_kept_where_no_store_is_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_run(None, mine(), fresh=False)
    assert opened.folder is None
    assert opened.stored is None
    assert not opened.store.accepted("task")
    opened.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_goes_on(folder, script, caplog):
    name = started(folder)
    with caplog.at_level(logging.INFO):
        again = open_run(folder, mine(), fresh=False)
    assert again.run == name
    assert [kept.event for kept in again.stored.entries] == [Started()]
    assert caplog.messages == [f"Resuming run {name}; start afresh with fresh=True"]
    again.close()


def test_a_fresh_start_is_a_new_run(folder, script):
    name = started(folder)
    again = open_run(folder, mine(), fresh=True)
    assert again.run != name
    assert again.stored is None
    again.close()


def test_a_finished_run_does_not_go_on(folder, script):
    opened = open_run(folder, mine(), fresh=False)
    opened.store.finish("finished")
    opened.close()
    again = open_run(folder, mine(), fresh=False)
    assert again.run != opened.run
    again.close()


def test_a_secret_that_a_server_has_left_when_it_died_at_the_very_end_goes_with_the_next_start(folder, script):
    settings = mine() | {"secret": "SHAKE-256"}
    opened = open_run(folder, settings, fresh=False)
    opened.store.finish("finished")
    opened.close()
    assert (opened.folder / "secret").exists()
    open_run(folder, settings, fresh=False).close()
    assert not (opened.folder / "secret").exists()


def test_a_run_may_become_longer(folder, script):
    name = started(folder, num_rounds=3)
    again = open_run(folder, mine(num_rounds=10), fresh=False)
    assert again.run == name
    again.close()


DIFFERENCES = {
    "a shorter run": (lambda script: mine(num_rounds=2), "num_rounds has shrunk from 3 to 2"),
    "another seed": (lambda script: mine(seed=1), "seed: 0 then, 1 now"),
    "another port": (lambda script: mine(port=9), "port: 8080 then, 9 now"),
    "another keyword": (
        lambda script: mine(FedAvg(fraction_fit=0.5, min_fit_clients=3)),
        "fraction_fit: 1.0 then, 0.5 now; min_fit_clients: 2 then, 3 now",
    ),
    "another transform": (
        lambda script: mine(FedAvg(transform=clip(2.0))),
        "transform: None then, 'chain(differences(), clip(norm=2.0))' now",
    ),
    "another strategy": (
        lambda script: mine(type("Mine", (FedAvg,), {"__module__": "__main__"})()),
        "strategy: 'umbel.strategies.fedavg.FedAvg' then, '__main__.Mine' now",
    ),
    "another model": (
        lambda script: mine(FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros((2, 3), "float32")]))),
        "model schema: None then, [['F32', [2, 3]]] now",
    ),
    "another script text": (lambda script: (script.write_text("print('bye')"), mine())[1], "the script has changed"),
}


@pytest.mark.parametrize(("other", "words"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_what_differs_is_named_and_a_new_run_begins(folder, script, caplog, other, words):
    name = started(folder)
    with caplog.at_level(logging.INFO):
        again = open_run(folder, other(script), fresh=False)
    assert again.run != name
    assert caplog.messages == [
        f"Run {name} is unfinished, but this is another one ({words})",
        f"Go on with it by: umbel resume {name}",
    ]
    again.close()


def test_another_script_has_runs_of_its_own_and_no_word_is_said(folder, script, caplog, monkeypatch):
    name = started(folder)
    other = script.with_name("other.py")
    other.touch()
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(other))
    again = open_run(folder, mine(), fresh=False)
    assert again.run != name
    assert caplog.messages == []
    again.close()


def test_a_script_that_was_moved_or_renamed_is_told_of_the_run_that_it_may_have_begun(
    folder, script, caplog, monkeypatch, again
):
    name = started(folder)
    moved = script.with_name("moved.py")
    script.rename(moved)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(moved))
    other = open_run(folder, mine(), fresh=False)
    assert other.run != name
    other.close()
    (said,) = caplog.messages
    assert f"Run {name} is unfinished, and the script that began it is gone: {script}" in said
    assert f"UMBEL_RESUME={name}" in said
    monkeypatch.setenv("UMBEL_RESUME", name)
    again()
    resumed = open_run(folder, mine(), fresh=False)
    assert resumed.run == name
    resumed.close()


def test_attributes_that_a_strategy_had_changed_are_named_when_its_run_goes_on(folder, script, caplog):
    opened = open_run(folder, mine(), fresh=False)
    opened.store.write([Entry(Started(), 0.0)])
    opened.store.note(ATTRIBUTES, ["best", "seen"])
    opened.close()
    again = open_run(folder, mine(), fresh=False)
    assert again.run == opened.run
    again.close()
    assert f"FedAvg had changed attributes of its own in run {again.run} (best, seen)" in caplog.text


def test_a_database_that_is_not_the_one_that_was_there_is_refused_and_may_be_given_up(folder, script, caplog):
    name = started(folder)
    for path in folder.glob("runs.sqlite*"):
        path.unlink()
    with pytest.raises(StoreError, match=f"does not know the unfinished run {name}.*Put back a copy.*fresh=True"):
        open_run(folder, mine(), fresh=False)
    again = open_run(folder, mine(), fresh=True)
    again.close()
    assert f"Run {name}, which the database has lost, is given up" in caplog.text
    assert (folder / name).is_dir()


def test_a_finished_run_may_be_forgotten_with_its_database(folder, script):
    opened = open_run(folder, mine(), fresh=False)
    opened.store.write([Entry(Started(), 0.0)])
    opened.store.finish("finished")
    opened.close()
    for path in folder.glob("runs.sqlite*"):
        path.unlink()
    open_run(folder, mine(), fresh=False).close()


def test_a_run_whose_folder_is_gone_is_named_with_where_it_was_begun(folder, script):
    name = started(folder)
    shutil.rmtree(folder / name)
    for _ in range(2):
        with pytest.raises(StoreError, match=f"run {name} has no folder .*It was begun in {os.getcwd()}"):
            open_run(folder, mine(), fresh=False)
    open_run(folder, mine(), fresh=True).close()


def test_a_journal_that_is_shorter_than_it_was_is_said(folder, script, caplog):
    name = started(folder)
    mark = folder / name / "journal.mark"
    assert mark.exists()
    mark.write_bytes(struct.pack("<qq", 17, 3))
    open_run(folder, mine(), fresh=False).close()
    assert f"Run {name} ends with entry 1 and round 0 in the run database, and entry 17 was written" in caplog.text


@pytest.mark.parametrize("gone", ["runs.sqlite", "runs.sqlite-wal"])
def test_a_database_that_is_taken_away_while_the_run_is_on_is_noticed(folder, script, gone):
    opened = open_run(folder, mine(), fresh=False)
    opened.store.write([Entry(Started(), 0.0)])
    (folder / gone).unlink()
    with pytest.raises(StoreError, match=r"was removed or replaced while run .* was on"):
        opened.store.write([Entry(Joined("a"), 1.0)])
    opened.close()


def test_values_of_the_initial_parameters_do_not_make_another_run(script, again):
    def with_values(value):
        again()
        return mine(FedAvg(initial_parameters=ndarrays_to_parameters([np.full(3, value)])))

    assert with_values(0.0) == with_values(1.0)


def test_a_run_that_another_process_holds_is_left_alone(folder, script):
    first = open_run(folder, mine(), fresh=False)
    second = open_run(folder, mine(), fresh=False)
    assert second.run != first.run
    first.close()
    second.close()


def test_a_lock_that_cannot_be_opened_is_named(folder, script):
    lock = folder / started(folder) / "lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(StoreError, match=rf"the run's lock {lock} cannot be opened for writing: "):
        started(folder)


def test_resuming_by_name_a_run_that_another_process_holds_is_refused(folder, script, monkeypatch):
    first = open_run(folder, mine(), fresh=False)
    monkeypatch.setenv(run_registry.RESUME, first.run)
    with pytest.raises(RunLocked, match=f"another process coordinates run {first.run}"):
        open_run(folder, mine(), fresh=False)
    first.close()
    resumed = open_run(folder, mine(), fresh=False)
    assert resumed.run == first.run
    resumed.close()


def test_a_run_that_is_resumed_by_name_may_have_another_script_other_keywords_and_another_port(
    folder, script, monkeypatch, again
):
    name = started(folder)
    again()
    script.write_text("print('mended')")
    monkeypatch.setenv(run_registry.RESUME, name)
    resumed = open_run(folder, mine(FedAvg(fraction_fit=0.5), port=8081, num_rounds=2), fresh=False)
    assert resumed.run == name
    assert run_registry.RESUME not in os.environ  # it was this start's
    resumed.close()


OTHERS = {
    "rules": (lambda: mine(timeout=30.0), r"rules: 2 clients, Pace\(.*deadline=None.* then, 2 clients, Pace\(.* now"),
    "seed": (lambda: mine(seed=1), "seed: 0 then, 1 now"),
    "strategy": (lambda: mine(FedBuff()), "strategy: 'umbel.strategies.fedavg.FedAvg' then, "),
    "model": (
        lambda: mine(FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros((2, 3), "float32")]))),
        r"model schema: None then, \[\['F32', \[2, 3\]\]\] now",
    ),
    "simulation": (lambda: mine(port=None) | {"kind": "simulation"}, "kind: None then, 'simulation' now"),
}


@pytest.mark.parametrize(("other", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_resuming_a_run_as_another_one_is_refused(folder, script, monkeypatch, again, other, words):
    monkeypatch.setenv(run_registry.RESUME, started(folder))
    again()
    with pytest.raises(RunMismatch, match=words):
        open_run(folder, other(), fresh=False)


@pytest.mark.parametrize("differs", ["seed", "keyword"])
def test_a_script_with_several_starts_resumes_the_run_with_the_one_that_began_it(
    folder, script, monkeypatch, again, caplog, differs
):
    def settings(number):
        return mine(seed=number) if differs == "seed" else mine(FedAvg(fraction_fit=1 / number))

    first, second, third = (open_run(folder, settings(number), fresh=False) for number in (1, 2, 3))
    first.store.finish("finished")
    for opened in (first, second, third):
        opened.close()

    monkeypatch.setenv(run_registry.RESUME, second.run)
    again()
    with caplog.at_level(logging.INFO):
        once_more = [open_run(folder, settings(number), fresh=False) for number in (1, 2, 3)]
    assert once_more[0].run not in (first.run, second.run, third.run)
    assert [opened.run for opened in once_more[1:]] == [second.run, third.run]
    left = f"Run {second.run} is left to another start of this script ("
    assert any(message.startswith(left) for message in caplog.messages)
    for opened in once_more:
        opened.close()


def test_a_script_that_leaves_out_what_is_finished_resumes_the_same_run(folder, script, monkeypatch, again):
    finished, second = open_run(folder, mine(seed=1), fresh=False), open_run(folder, mine(seed=2), fresh=False)
    finished.close()
    second.close()
    monkeypatch.setenv(run_registry.RESUME, second.run)
    again()
    resumed = open_run(folder, mine(seed=2), fresh=False)
    assert resumed.run == second.run
    resumed.close()


def test_a_run_that_no_start_of_the_script_has_taken_is_named_in_the_end(folder, script, monkeypatch, again, caplog):
    open_run(folder, mine(seed=1), fresh=False).close()
    second = open_run(folder, mine(seed=2), fresh=False)
    second.close()
    monkeypatch.setenv(run_registry.RESUME, second.run)
    again()
    open_run(folder, mine(seed=3), fresh=False).close()
    run_registry._say_left()  # as when the process ends
    assert caplog.messages[-1] == f"Run {second.run} has not gone on: no start of this script was the one that began it"


def test_resuming_a_run_that_has_ended_is_refused(folder, script, monkeypatch, again):
    opened = open_run(folder, mine(), fresh=False)
    opened.store.finish("finished")
    opened.close()
    again()
    monkeypatch.setenv(run_registry.RESUME, opened.run)
    with pytest.raises(RunMismatch, match=f"run {opened.run} has finished; only an unfinished run can go on"):
        open_run(folder, mine(), fresh=False)


def test_resuming_a_run_that_does_not_exist_is_refused(folder, script, monkeypatch):
    monkeypatch.setenv(run_registry.RESUME, "yesterday")
    with pytest.raises(RunMismatch, match="there is no run 'yesterday'"):
        open_run(folder, mine(), fresh=False)


def test_a_notebook_never_resumes_by_itself(folder, script, monkeypatch):
    name = started(folder)
    monkeypatch.setattr(run_registry, "in_notebook", lambda: True)
    again = open_run(folder, mine(), fresh=False)
    assert again.run != name
    again.close()


def test_a_store_can_be_named_by_a_url(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    opened = open_run(url, mine(), fresh=False)
    opened.store.write([Entry(Joined("a"), 0.0)])
    assert (tmp_path / "umbel-runs" / opened.run).is_dir()
    opened.close()
    assert (tmp_path / "elsewhere.sqlite").exists()


def test_a_folder_may_have_any_name(tmp_path):
    odd = tmp_path / "what?=a#b %20"
    started(odd)
    assert (odd / "runs.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [odd.name]


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"the store's folder '.*file' cannot be made: File exists"):
        open_run(tmp_path / "file", mine(), fresh=False)


def test_a_run_that_has_been_audited_stays_so(folder, script, caplog):
    strategy = FedAvg()
    opened = open_run(folder, mine(strategy), fresh=False, keeping=Keeping(audit=True))
    opened.store.write([Entry(Replied("task", Reply(1, 0.0, {}, None)), 0.0)])
    before = opened.store.head
    opened.close()
    with caplog.at_level(logging.INFO):
        goes_on = open_run(folder, mine(strategy), fresh=False)
    assert goes_on.store.head == before
    assert f"Run {opened.run} has been audited so far, and stays so" in caplog.messages
    goes_on.close()


def test_names_of_runs_do_not_collide(folder, script):
    assert len({started(folder, fresh=True) for _ in range(5)}) == 5


@pytest.mark.parametrize("strategy", [FedAvg(), PowerOfChoice(FedAvg(), candidates=3), FedBuff()])
def test_the_rules_that_are_written_are_those_of_the_run(strategy):
    written = json.loads(json.dumps(mine(strategy)))
    least = strategy.min_available_clients
    rules = Rules(run="run", min_available=least, pace=strategy.pace, exchanges=host_of(strategy).declared.exchanges)
    assert rules_of("run", written) == rules
    assert ("exchanges" in written["rules"]) is (type(strategy).__name__ == "PowerOfChoice")


def test_exchanges_of_a_strategy_that_are_no_round_are_refused_before_anything_starts():
    class Twice(FedAvg):
        exchanges = (FIT, FIT)

    with pytest.raises(StrategyError, match=r"Twice.exchanges: exchanges are told apart by names"):
        mine(Twice())


def test_a_run_of_other_exchanges_is_another_run():
    fit, asks = mine(), mine(PowerOfChoice(FedAvg(), candidates=3))
    (difference,) = [text for text in differences(fit, asks) if text.startswith("rules")]
    assert difference.endswith("candidates → fit → evaluate now")
