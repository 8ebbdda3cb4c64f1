"""Files of a run are damaged, while its server is down or while it is up: never another model, never a raw traceback."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3

import pytest
from federations import together, wait_for

pytestmark = pytest.mark.system


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def only(paths):
    (path,) = paths
    return path


DAMAGE = {  # more of it in tests/runtime/test_damage.py
    "a bit of the data": lambda run: flip(run / "model-000002.safetensors", -100),
    "a slot that is gone": lambda run: (run / "model-000002+m.safetensors").unlink(),
}


def killed_in_round(federation, number, **options):
    """A server that was killed while both clients trained in this round; its run's folder."""
    server = federation.server(**options)
    federation.clients("a", "b", hold=[f"fit.{number}"])
    for name in "ab":
        federation.reached(name, f"fit.{number}")
    server.kill()
    for name in "ab":
        federation.open(name, f"fit.{number}")
    return only(path for path in (federation.folder / "umbel-runs").iterdir() if path.is_dir())


def test_a_damaged_model_takes_the_run_back_to_the_version_before_and_ends_in_the_same_bits(federations, reference):
    def story(what, damage):
        federation = federations(what)
        damage(killed_in_round(federation, 3, strategy="adam"))
        second = federation.server(strategy="adam")
        assert second.ends(60) == 0
        assert "Going back to version 1 of the model: round 2 is done again" in second.text
        assert "model-000002" in second.text.split("Going back")[0]
        federation.all_end()
        assert federation.model() == reference(strategy="adam")
        history = federation.history()
        assert [number for number, _ in history["losses_distributed"]] == [1, 2, 3]
        assert [number for number, _ in history["losses_centralized"]] == [0, 1, 2, 3]
        assert "Traceback" not in federation.words()

    together(story, *DAMAGE.items())


@pytest.mark.slow
def test_a_damaged_update_that_waits_is_asked_for_again(federation, reference):
    server = federation.server()
    federation.clients("a", "b", hold=["fit.2"])
    for name in "ab":
        federation.reached(name, "fit.2")
    federation.open("a", "fit.2")
    database = federation.folder / "umbel-runs" / "runs.sqlite"

    def counted():
        with contextlib.closing(sqlite3.connect(database)) as connection:
            query = "SELECT count(*) FROM umbel_journal WHERE type = 'Replied' AND task LIKE '%.2.fit.0.0'"
            return connection.execute(query).fetchone()[0]

    wait_for(counted, 20, "the answer of a counts")
    server.kill()
    flip(only(database.parent.glob("*/*.2.fit.0.0-*.safetensors")), -1)
    federation.open("b", "fit.2")

    second = federation.server()
    assert second.ends(60) == 0
    assert ".2.fit.0.0-" in second.text
    assert "is damaged" in second.text
    federation.all_end()
    assert federation.model() == reference()
    assert federation.history()["failures"] == []


ENDS = {
    "every version": (
        lambda run: [os.truncate(path, 10) for path in run.glob("model-*.safetensors")],
        "No whole version of the model is left",
    ),
    "the database, empty": (
        lambda run: [path.write_bytes(b"") for path in run.parent.glob("runs.sqlite*")],
        "does not know the unfinished run",
    ),
    "the run's folder": (shutil.rmtree, "has no folder"),
}


@pytest.mark.slow
def test_where_nothing_whole_is_left_the_server_ends_with_one_line_and_begins_anew_if_told(federations, reference):
    def story(what, damage, words):
        federation = federations(what)
        damage(killed_in_round(federation, 3, snapshots=0))
        second = federation.server(snapshots=0)
        assert second.ends(40) == 1
        said = [line for line in second.text.splitlines() if line.startswith("umbel: ")]
        assert len(said) == 1
        assert words in said[0]
        assert "umbel-runs" in said[0]
        assert "Traceback" not in second.text
        assert "fresh=True" in said[0]
        third = federation.server(snapshots=0, fresh=True)
        assert third.ends(60) == 0
        assert federation.model() == reference()

    together(story, *[(what, *more) for what, more in ENDS.items()])


TAKEN_AWAY = {
    "the database": (lambda run: [path.unlink() for path in run.parent.glob("runs.sqlite*")], "was removed or replaced"),
    "the model": (lambda run: (run / "model-000001.safetensors").unlink(), "model-000001.safetensors is gone"),
    "the run's folder": (shutil.rmtree, "No such file or directory"),
}


def test_what_is_taken_away_while_the_run_is_on_ends_it_with_one_line(federations):
    def story(what, take, words):
        federation = federations(what)
        server = federation.server()
        federation.clients("a", "b", hold=["fit.2"])
        for name in "ab":
            federation.reached(name, "fit.2")
        take(only(path for path in (federation.folder / "umbel-runs").iterdir() if path.is_dir()))
        for name in "ab":
            federation.open(name, "fit.2")
        assert server.ends(60) == 1
        said = [line for line in server.text.splitlines() if line.startswith("umbel: ")]
        assert len(said) == 1
        assert words in said[0]
        assert "Traceback" not in server.text

    together(story, *[(what, *more) for what, more in TAKEN_AWAY.items()])
