"""`durability="power"`: what is acknowledged is on the disk, whatever of the rest the power failure took.

POSIX promises that the bytes of a file are there after it was flushed, and its name after its folder was; everything else
may be gone. The contents run on a real file system, and every call is written down.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

import numpy as np
import pytest

from umbel.params import Params, gather
from umbel.rounds.messages import Started
from umbel.runtime import contents as module
from umbel.runtime.contents import FileContents, write_content
from umbel.runtime.stores.base import Entry, Keeping
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore

MODEL = Params.of([np.arange(1000, dtype="float32")])


class Recorded:
    """`os`, but the calls that make something durable are written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *mode):
        fd = os.open(path, flags, *mode)
        self._names[fd] = os.path.basename(path)
        return fd

    def write(self, fd, data):
        self.calls.append(("write", self._names[fd]))
        return os.write(fd, data)

    def fsync(self, fd):
        self.calls.append(("flush", self._names[fd]))
        os.fsync(fd)

    def replace(self, old, new):
        self.calls.append(("name", os.path.basename(new)))
        self.calls.append(("of", os.path.basename(old)))
        os.replace(old, new)

    def link(self, old, new):
        self.calls.append(("link", os.path.basename(new)))
        os.link(old, new)


@pytest.fixture
def recorded(monkeypatch):
    shim = Recorded()
    monkeypatch.setattr(module, "os", shim)
    return shim


def write(contents, name):
    write_content(contents, name, MODEL.schema, gather(MODEL.schema, MODEL.arrays(), 0, MODEL.schema.nbytes))


def test_a_file_is_flushed_before_it_has_its_name_and_the_folder_after(tmp_path, recorded):
    contents = FileContents(tmp_path / "run", power=True)
    write(contents, "model")
    kinds = [kind for kind, _ in recorded.calls]
    temporary = next(name for kind, name in recorded.calls if kind == "of")
    last_write = max(i for i, kind in enumerate(kinds) if kind == "write")
    flushed = recorded.calls.index(("flush", temporary))
    named = recorded.calls.index(("name", "model.safetensors"))
    assert last_write < flushed < named < recorded.calls.index(("flush", "run"))


def test_a_second_name_is_flushed_too(tmp_path, recorded):
    contents = FileContents(tmp_path / "run", power=True)
    write(contents, "reply")
    recorded.calls.clear()
    contents.link("reply", "model")
    assert recorded.calls[-1] == ("flush", "run")


def test_by_default_nothing_is_flushed(tmp_path, recorded):
    write(FileContents(tmp_path / "run"), "model")
    assert "flush" not in [kind for kind, _ in recorded.calls]


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_sqlite_flushes_each_commit_where_power_may_fail(tmp_path, durability, synchronous):
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'runs.sqlite'}", durability=durability)) as database:
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous  # 1 NORMAL, 2 FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        store = SqlStore(database, "run", FileContents(tmp_path / "run"), Keeping(durability=durability))
        store.write([Entry(Started(), 0.0)])
        store._drop()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM umbel_journal").fetchone() == (1,)




@pytest.mark.parametrize(
    ("keeping", "words"),
    [
        ({"durability": "hope"}, "durability='hope'; it is 'process' or 'power'"),
        ({"rounds": 0}, "keep_rounds=0; the journal keeps 1 round at least, and None keeps all"),
        ({"patience": -1.0}, "store_patience=-1.0 seconds; it must not be negative"),
    ],
)
def test_a_way_of_keeping_that_makes_no_sense_is_named(keeping, words):
    with pytest.raises(ValueError, match=words):
        Keeping(**keeping)
