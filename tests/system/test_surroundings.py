"""Folders that change, files that are closed or few, names that are not Unicode: it works, or one line says why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from federations import PROGRAMS, free_port

from umbel.params import Params

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="the shell's ulimit and file names")]
RIGHT = "[(1, 1.0), (2, 2.0)]"


class Surroundings:
    """A folder for programs that a shell starts; `before` is what the shell says first, `after` behind the command."""

    def __init__(self, folder, *, before="", after="", script="surroundings.py", **environment):
        folder.mkdir(parents=True)
        shutil.copy(PROGRAMS / "surroundings.py", folder / script)
        self.folder, self.before, self.after, self.script = folder, before, after, script
        self.result = folder / "result"
        self.environment = os.environ | {"RESULT": str(self.result), "PYTHONUNBUFFERED": "1"} | environment

    def run(self, *arguments):
        """Exit code and words."""
        command = " ".join([self.before, "exec", sys.executable, self.script, *arguments, self.after])
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, timeout=120, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def federation(self, accident=""):
        address = f"127.0.0.1:{free_port()}"
        with ThreadPoolExecutor(3) as together:
            return list(together.map(lambda who: self.run(who, address, accident), ["server", "a", "b"]))


def model_of(words):
    (path,) = re.findall(r"Model: (.+\.safetensors)", words)
    assert os.path.isabs(path)
    return Params.from_bytes(Path(path).read_bytes()).arrays()[0][0]


@pytest.mark.slow
def test_users_code_may_change_the_folder(tmp_path):
    there = Surroundings(tmp_path / "network")
    for code, words in (told := there.federation("chdir")):
        assert code == 0, words
    assert model_of(told[0][1]) == 2.0
    assert there.result.read_text() == RIGHT
    for backend in ("inline", "processes"):
        there = Surroundings(tmp_path / backend)
        code, words = there.run(backend, "-", "chdir")
        assert code == 0, words
        assert model_of(words) == 2.0
    assert [path.parent.name for path in tmp_path.rglob("umbel-runs")] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("after", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_standard_files_may_be_closed(tmp_path, after):
    there = Surroundings(tmp_path / "there", after=after)
    if after == "<&- >&- 2>&-":
        assert [code for code, _ in there.federation()] == [0, 0, 0]
        assert there.result.read_text() == RIGHT
        there.result.unlink()
    code, words = there.run("processes" if after == "<&- >&- 2>&-" else "inline", "-")
    assert code == 0, words
    assert there.result.read_text() == RIGHT


@pytest.mark.slow
def test_names_that_are_not_unicode(tmp_path):
    there = Surroundings(tmp_path / os.fsdecode(b"caf\xe9"), script=os.fsdecode(b"pr\xe9gramme.py"))
    for code, words in there.federation():
        assert code == 0, words
    for backend in ("inline", "processes"):
        there.result.unlink()
        code, words = there.run(backend, "-")
        assert code == 0, words
        assert there.result.read_text() == RIGHT


@pytest.mark.slow
def test_a_home_and_a_place_for_temporary_files_are_not_needed(tmp_path):
    for environment in ({"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},):
        there = Surroundings(tmp_path / str(len(environment)), before="unset XDG_CACHE_HOME;", **environment)
        assert [code for code, _ in there.federation()] == [0, 0, 0]
        assert there.result.read_text() == RIGHT


def test_sixteen_files_work_or_one_line_says_what_to_do(tmp_path):
    there = Surroundings(tmp_path / "there", before="ulimit -n 16;")
    said = "umbel: this process may open 16 files (ulimit -n; at most 16), which are too few: raise the limit"
    assert there.run("server", f"127.0.0.1:{free_port()}") == (1, f"{said}; a server needs 64\n")
    code, words = there.run("processes", "-")
    assert code == 1
    assert words.splitlines()[-1] == said
    assert "Traceback" not in words
    code, words = there.run("inline", "-")
    assert code == 0, words


def test_a_folder_that_is_gone_or_cannot_be_written_is_said_in_one_line(tmp_path):
    there = Surroundings(tmp_path / "there", before='mkdir gone && cd gone && rmdir ../gone;', script="surroundings.py")
    there.script = str(there.folder / "surroundings.py")
    for who, address in (("server", f"127.0.0.1:{free_port()}"), ("inline", "-")):
        code, words = there.run(who, address)
        assert code == 1
        assert words == "umbel: the working folder has been removed; start in another, or give store= an absolute path\n"


def test_a_server_whose_listener_has_ended_ends(tmp_path):
    there = Surroundings(tmp_path / "there")
    address = f"127.0.0.1:{free_port()}"
    clients = [
        subprocess.Popen([sys.executable, there.script, who, address], cwd=there.folder, env=there.environment)
        for who in ("a", "b")
    ]
    try:
        code, words = there.run("server", address, "listener")
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert code == 1
    said = [line for line in words.splitlines() if line.startswith("umbel: the thread that serves the network has ended (")]
    assert len(said) == 1, words
    assert said[0].endswith("; the run is kept")
