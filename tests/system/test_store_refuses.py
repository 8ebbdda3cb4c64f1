"""A full disk and a database that goes away: the server waits and goes on, or stops with a word and can go on later."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from federations import PROGRAMS, wait_for

from postgres import Postgres, find_server

pytestmark = pytest.mark.system

LARGE = 600_000  # float32 values, 2.4 MB: sent in parts


# ---- a database that goes away


@pytest.fixture
def database(postgres):
    """A PostgreSQL server of the test's own, which it may stop."""
    server = Postgres(find_server())
    yield server
    server.close()


def test_a_database_that_is_restarted_in_the_middle_of_a_run_changes_nothing(federation, reference, database):
    url = database.database()
    server = federation.server(store=url, audit=True)
    clients = federation.clients("a", "b", hold=["fit.2"])
    for name in "ab":
        federation.reached(name, "fit.2")
    database.stop()
    for name in "ab":
        federation.open(name, "fit.2")
    server.says("cannot write the journal of run")
    server.says("trying again, for up to")
    database.start()

    assert server.ends(60) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert "The store works again, after" in server.text
    assert "Traceback" not in federation.words()
    assert [client.text.count("Received fit of round 2") for client in clients] == [1, 1]  # trained once
    assert federation.model() == reference()


def test_a_database_that_crashes_again_and_again_changes_nothing(federation, reference, database):
    url = database.database()
    points = ["fit.1", "evaluate.1", "fit.3"]
    server = federation.server(store=url)
    clients = federation.clients("a", "b", hold=points)
    for point in points:
        for name in "ab":
            federation.reached(name, point)
        database.stop(kill=True)
        for name in "ab":
            federation.open(name, point)
        database.start()

    assert server.ends(60) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()


@pytest.mark.slow
def test_a_database_that_stays_away_stops_the_server_with_a_word_and_the_run_can_go_on(federation, reference, database):
    url = database.database()
    server = federation.server(store=url, store_patience=1.5)
    clients = federation.clients("a", "b", hold=["fit.2"])
    for name in "ab":
        federation.reached(name, "fit.2")
    database.stop()
    for name in "ab":
        federation.open(name, "fit.2")
    assert server.ends(40) == 1
    last = server.text.strip().splitlines()[-1]
    assert last.startswith("umbel: cannot ")
    assert "Nothing is half-written: mend it, start the same server again, and the run goes on" in last
    assert "Traceback" not in server.text

    again = federation.server(store=url, store_patience=1.5)
    assert again.ends(40) == 1
    assert "umbel: cannot open the run database postgresql+psycopg://umbel@127.0.0.1" in again.text

    database.start()
    assert federation.server(store=url).ends(60) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference()


@pytest.mark.slow
def test_two_servers_on_two_machines_cannot_coordinate_one_run(federation, federations, postgres):
    """Two folders stand for two machines: there, a lock in the folder says nothing."""
    url = postgres.database()
    first = federation.server(store=url)
    first.says("Waiting for clients")
    run = first.text.split(", run ")[1].split(",")[0]

    elsewhere = federations("elsewhere")
    second = elsewhere.program("server", *_resuming(elsewhere, url), UMBEL_RESUME=run)
    assert second.ends(40) == 1
    assert f"umbel: another process coordinates run {run}" in second.text
    assert first.alive


def _resuming(federation, url):
    options = {"address": federation.address, "gates": str(federation.gates), "store": url}
    return PROGRAMS / "server.py", json.dumps(options)


# ---- a full disk

# What it is too full for: bytes that are left, and the step after which it is.
FULL = {"an update": (LARGE, 1_000_000, "fit.2"), "the journal": (1000, 0, "evaluate.2")}


class Disk:
    """A small file system of its own under the federation's runs, which can be filled and cleared."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "umbel-test", str(folder)],
            capture_output=True,
            check=False,
        )
        self.mounted = done.returncode == 0
        self._ballast = folder / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Leaves so many bytes free, rounded down to pages."""
        free = os.statvfs(self.folder)
        with self._ballast.open("ab") as ballast, contextlib.suppress(OSError):
            ballast.write(b"x" * max(free.f_bavail * free.f_frsize - leave, 0))

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(federation):
    disk = Disk(federation.folder / "umbel-runs", 16)
    if not disk.mounted:
        pytest.skip("no right to mount a file system here: a real full disk is not tested")
    yield disk
    federation.end()
    disk.close()


@pytest.mark.parametrize(("size", "leave", "point"), FULL.values(), ids=FULL.keys())
def test_a_disk_that_is_full_for_a_while_changes_nothing(federation, reference, disk, size, leave, point):
    server = federation.server(size=size)
    clients = federation.clients("a", "b", hold=[point], size=size)
    for name in "ab":
        federation.reached(name, point)
    disk.fill(leave=leave)
    for name in "ab":
        federation.open(name, point)
    wait_for(lambda: "No space left" in server.text or "disk is full" in server.text, 30, "the server says it")
    server.says("trying again" if not leave else "the client is told to try again")
    disk.clear()

    assert server.ends(60) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert [client.text.count("Received fit of round 2") for client in clients] == [1, 1]  # trained once
    assert federation.model() == reference(size=size)
    assert federation.history()["failures"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("size", "leave", "point"), FULL.values(), ids=FULL.keys())
def test_a_disk_that_stays_full_stops_the_server_with_nothing_half_written(federation, reference, disk, size, leave, point):
    server = federation.server(size=size, store_patience=1.5)
    clients = federation.clients("a", "b", hold=[point], size=size)
    for name in "ab":
        federation.reached(name, point)
    disk.fill(leave=leave)
    for name in "ab":
        federation.open(name, point)
    assert server.ends(60) == 1
    last = server.text.strip().splitlines()[-1]
    assert last.startswith("umbel: ")
    assert "No space left on device" in last or "disk is full" in last
    assert "Traceback" not in server.text
    assert not list(disk.folder.rglob("*.part"))

    disk.clear()
    assert federation.server(size=size).ends(60) == 0
    assert [client.ends() for client in clients] == [0, 0]
    assert federation.model() == reference(size=size)
