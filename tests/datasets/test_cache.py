"""Files that are known by their sha256: what is wrong neither enters nor leaves."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys

import pytest

from umbel.datasets.cache import KnownFiles, data_dir, keep_table
from umbel.errors import DataError

CONTENT = {"one": b"first" * 1000, "two": b"second" * 1000}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    return KnownFiles(
        folder="numbers",
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()},
        remedy="Fetch it again.",
    )


def test_what_went_in_comes_out(files):
    assert not files.present()
    for name, content in CONTENT.items():
        files.write(name, content, origin="here")
    assert files.present()
    assert files.whole()
    assert {name: files.read(name) for name in CONTENT} == CONTENT
    assert sorted(path.name for path in files.path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("damage", [b"", CONTENT["one"][:-1], CONTENT["one"] + b"x", b"F" + CONTENT["one"][1:]])
def test_damage_is_refused_on_the_way_in_and_on_the_way_out(files, damage):
    with pytest.raises(DataError, match=rf"one from a friend is damaged.*: {len(damage)} bytes .*Fetch it again\."):
        files.write("one", damage, origin="a friend")
    assert not files.path.exists()

    files.write("one", CONTENT["one"], origin="here")
    (files.path / "one").write_bytes(damage)
    with pytest.raises(DataError, match=r"numbers/one is damaged or not the file it should be"):
        files.read("one")
    assert not files.whole()

    files.write("one", CONTENT["one"], origin="here")
    assert files.read("one") == CONTENT["one"]


def test_a_missing_file_is_named(files):
    with pytest.raises(DataError, match=r"numbers/two cannot be read: No such file or directory\. Fetch it again\."):
        files.read("two")


def test_a_folder_that_cannot_be_written_is_named(files):
    files.path.parent.joinpath("numbers").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"numbers/one cannot be written: .*UMBEL_DATA"):
        files.write("one", CONTENT["one"], origin="here")


def test_a_file_may_be_read_by_whom_any_new_file_may(files):
    mask = os.umask(0o027)
    try:
        files.write("one", CONTENT["one"], origin="here")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((files.path / "one").stat().st_mode) == 0o640


def test_what_a_killed_writer_left_is_removed_after_an_hour(tmp_path):
    left, others = tmp_path / ".table-x.npz.0123456789abcdef", tmp_path / ".gitignore"
    path = tmp_path / "table-x.npz"
    for file in (left, others):
        file.write_bytes(b"half")
    assert keep_table(path, b"whole")
    assert left.exists(), "its writer may be at work"
    for file in (left, others):
        os.utime(file, (0, 0))
    assert keep_table(path, b"whole")
    assert sorted(tmp_path.iterdir()) == [others, path]


FILL = """
import hashlib, sys
from umbel.datasets.cache import KnownFiles
content = b"third" * 200_000
files = KnownFiles(folder="many", sha256={"three": hashlib.sha256(content).hexdigest()}, remedy="")
for _ in range(20):
    files.write("three", content, origin="here")
    assert files.read("three") == content
"""


@pytest.mark.system
def test_processes_may_fill_it_at_once(files):
    fillers = [subprocess.Popen([sys.executable, "-c", FILL]) for _ in range(4)]
    assert [filler.wait() for filler in fillers] == [0, 0, 0, 0]
    assert [path.name for path in (files.path.parent / "many").iterdir()] == ["three"]


def test_where_data_is_kept(monkeypatch, tmp_path):
    for variable in ("UMBEL_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_dir() == tmp_path / ".cache" / "umbel"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_dir() == tmp_path / "xdg" / "umbel"
    monkeypatch.setenv("UMBEL_DATA", "~/mine")
    assert data_dir() == tmp_path / "mine"
    monkeypatch.setenv("UMBEL_DATA", "~nobody-of-this-name/mine")
    with pytest.raises(DataError, match=r"There is no home folder to keep data in\. Set UMBEL_DATA"):
        data_dir()
