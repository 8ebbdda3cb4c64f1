"""Which run is this: the one that ended uncleanly, or a new one? And who holds it?"""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import RunLocked, RunMismatch
from umbel.rounds.messages import Joined, Started
from umbel.runtime import runs
from umbel.runtime.runs import fingerprint, open_run
from umbel.runtime.stores.base import Entry
from umbel.server.strategy import FedAvg


def mine(strategy=None, *, seed=0, port=8080, num_rounds=3, timeout=None):
    strategy = strategy or FedAvg()
    return fingerprint(strategy, strategy.pace.within(timeout), seed=seed, port=port, num_rounds=num_rounds)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "umbel-runs"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """This process is the script `server.py`."""
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


def test_values_of_the_initial_parameters_do_not_make_another_run(script):
    def with_values(value):
        return mine(FedAvg(initial_parameters=ndarrays_to_parameters([np.full(3, value)])))

    assert with_values(0.0) == with_values(1.0)


def test_a_run_that_another_process_holds_is_left_alone(folder, script):
    first = open_run(folder, mine(), fresh=False)
    second = open_run(folder, mine(), fresh=False)
    assert second.run != first.run
    first.close()
    second.close()


def test_resuming_by_name_a_run_that_another_process_holds_is_refused(folder, script, monkeypatch):
    first = open_run(folder, mine(), fresh=False)
    monkeypatch.setenv(runs.RESUME, first.run)
    with pytest.raises(RunLocked, match=f"another process coordinates run {first.run}"):
        open_run(folder, mine(), fresh=False)
    first.close()
    again = open_run(folder, mine(seed=99), fresh=False)
    assert again.run == first.run
    again.close()


def test_resuming_a_run_under_other_rules_is_refused(folder, script, monkeypatch):
    monkeypatch.setenv(runs.RESUME, started(folder))
    with pytest.raises(RunMismatch, match=r"under the rules 2 clients, Pace\(.*deadline=None.*, not 2 clients, Pace"):
        open_run(folder, mine(timeout=30.0), fresh=False)


def test_resuming_a_run_that_does_not_exist_is_refused(folder, script, monkeypatch):
    monkeypatch.setenv(runs.RESUME, "yesterday")
    with pytest.raises(RunMismatch, match="there is no run 'yesterday'"):
        open_run(folder, mine(), fresh=False)


def test_a_notebook_never_resumes_by_itself(folder, script, monkeypatch):
    name = started(folder)
    monkeypatch.setattr(runs, "in_notebook", lambda: True)
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


def test_names_of_runs_do_not_collide(folder, script):
    assert len({started(folder, fresh=True) for _ in range(5)}) == 5
