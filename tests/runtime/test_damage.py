"""A run dies anywhere, and any of its files is damaged then: it ends in the same bits, or says which file it lacks."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import zlib

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import StoreError
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.runtime import contents as contents_module
from umbel.runtime import run as run_module
from umbel.runtime.contents import FileContents
from umbel.runtime.replay import replay
from umbel.runtime.stores.audit import digest_of_file, verify
from umbel.runtime.stores.base import Keeping
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.server.strategy import FedAdam, FedAvg, FedBuff
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Learner(NumPyClient):
    def __init__(self, step):
        self.step = step

    def fit(self, parameters, config):
        return [a + self.step / (3 + config["round"]) for a in parameters], self.step, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), self.step, {}


class Dying(SqlStore):
    """Dies before the n-th writing to the journal."""

    left = 0

    def write(self, entries, snapshot=None):
        self.left -= 1
        if self.left < 0:
            raise SystemExit
        super().write(entries, snapshot)


@pytest.fixture(autouse=True)
def each_input_is_written_by_itself(monkeypatch):
    """So that a run can die between any two."""
    monkeypatch.setattr(run_module, "TOGETHER", 1)


STRATEGIES = {
    "FedAvg": (FedAvg, {}),
    "FedAdam": (FedAdam, {}),
    "FedBuff": (FedBuff, {"buffer_size": 2, "concurrency": 3}),
}


def attempt(folder, kind, left=10**9, **keeping):
    """The run of three clients as far as it comes, None where it dies; a new process each time it is called."""
    made, keywords = STRATEGIES[kind]
    strategy = made(
        initial_parameters=ndarrays_to_parameters([np.zeros(40, "float32")]),
        on_fit_config_fn=lambda number: {"round": number},
        **keywords,
    )
    with contextlib.ExitStack() as closing:
        database = Database(f"sqlite:///{folder / 'runs.sqlite'}")
        closing.callback(database.close)
        database.check_pages()
        kept = Keeping(rounds=None, **keeping)
        store = Dying(database, "run", FileContents(folder / "run", power=kept.power, digests=kept.audit), kept)
        closing.callback(store.close)
        store.left = left
        stored = store.load()
        rules = Rules(run="run", min_available=3, pace=strategy.pace)
        coordinator = Coordinator(rules, stored.state or State(num_rounds=3))
        for _ in replay(coordinator, stored.entries):
            pass
        clients = {f"c{step}": Learner(step) for step in (1, 2, 3)}
        try:
            return run_locally(strategy, clients, num_rounds=3, store=store, coordinator=coordinator)
        except SystemExit:
            return None


def comes_to(folder, kind, **keeping):
    """The run to its end; or why it cannot go on."""
    try:
        return attempt(folder, kind, **keeping), ""
    except StoreError as error:
        return None, str(error)


def bits(run):
    return [array.tobytes() for array in run.arrays]


@pytest.fixture
def whole(tmp_path):
    """`whole(kind)`: the bits of a run to which nothing happens."""

    def run(kind):
        (tmp_path / "whole").mkdir()
        return bits(attempt(tmp_path / "whole", kind))

    return run


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.write_bytes(data)


DAMAGE = {
    "a bit": flip,
    "cut": lambda path: os.truncate(path, 70),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_wherever_it_dies_and_whatever_is_damaged_no_other_model_comes_out(tmp_path, whole, kind):
    expected, went_on, ended = whole(kind), 0, 0
    for left in range(2, 18, 3):
        died = tmp_path / f"died-{left}"
        died.mkdir()
        if attempt(died, kind, left) is not None:
            break
        files = sorted(path.name for path in (died / "run").glob("*.safetensors"))
        for number, name in enumerate(files):
            folder = tmp_path / f"damaged-{left}-{number}"
            shutil.copytree(died, folder)
            DAMAGE[[*DAMAGE][(left // 2 + number) % len(DAMAGE)]](folder / "run" / name)
            run, why = comes_to(folder, kind)
            if run is None:
                assert str(folder / "run" / name) in why
                assert "No whole version of the model is left" in why
                ended += 1
                continue
            went_on += 1
            if kind != "FedBuff":  # where the order in which answers come is an input
                assert bits(run) == expected
            assert run.coordinator.state.completed == 3
            left_over = {path.stem.split("+")[0] for path in (folder / "run").glob("*.safetensors")}
            assert kind == "FedBuff" or left_over == {"model-000003"}
            assert attempt(folder, kind).coordinator.state == run.coordinator.state  # the journal tells the same story
            shutil.rmtree(folder)
    assert went_on > 5
    assert ended  # version 0 has none before it


def test_both_versions_damaged_end_the_run_and_nothing_is_removed(tmp_path):
    assert attempt(tmp_path, "FedAdam", 14) is None
    versions = sorted((tmp_path / "run").glob("model-??????.safetensors"))
    assert len(versions) == 2
    for path in versions:
        flip(path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    for _ in range(2):
        with pytest.raises(StoreError) as error:
            attempt(tmp_path, "FedAdam")
        for path in versions:
            assert str(path) in str(error.value)
        assert "put back a copy of these files and start again, or begin anew with fresh=True" in str(error.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")} == before


def replaced_by(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_any_more_is_not_waited_for(tmp_path, whole, make):
    expected = whole("FedAdam")
    assert attempt(tmp_path, "FedAdam", 14) is None
    newest = sorted((tmp_path / "run").glob("model-??????+m.safetensors"))[-1]
    replaced_by(make)(newest)
    assert bits(attempt(tmp_path, "FedAdam")) == expected


def test_a_folder_in_the_place_of_a_version_is_named(tmp_path):
    assert attempt(tmp_path, "FedAdam", 14) is None
    newest = sorted((tmp_path / "run").glob("model-??????.safetensors"))[-1]
    replaced_by(lambda path: path.mkdir())(newest)
    run, why = comes_to(tmp_path, "FedAdam")
    assert run is None
    assert why.startswith(f"{newest} cannot be removed: ")
    assert why.endswith("; remove it yourself and start again")
    newest.rmdir()
    assert attempt(tmp_path, "FedAdam") is not None


def test_a_version_that_was_put_back_is_taken(tmp_path):
    assert attempt(tmp_path, "FedAvg", 10) is None
    (newest,) = [*(tmp_path / "run").glob("model-??????.safetensors")][-1:]
    data = newest.read_bytes()
    flip(newest)
    newest.write_bytes(data)
    assert attempt(tmp_path, "FedAvg") is not None


def test_bits_of_the_database_that_flip_are_noticed_or_change_nothing(tmp_path, whole):
    """Anywhere in its pages: the same bits at the end, or an error that names the database."""
    expected = whole("FedAvg")
    died = tmp_path / "died"
    died.mkdir()
    assert attempt(died, "FedAvg", 9) is None
    rng, noticed = np.random.default_rng(5), 0
    size = (died / "runs.sqlite").stat().st_size
    for number in range(30):
        folder = tmp_path / f"flipped-{number}"
        shutil.copytree(died, folder)
        data = bytearray((folder / "runs.sqlite").read_bytes())
        data[rng.integers(size)] ^= 1 << int(rng.integers(8))
        (folder / "runs.sqlite").write_bytes(data)
        run, why = comes_to(folder, "FedAvg", patience=0.0)
        if run is None:
            assert "runs.sqlite" in why
            noticed += 1
        else:
            assert bits(run) == expected
        shutil.rmtree(folder)
    assert noticed > 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_database_that_has_lost_its_end_says_so(tmp_path, whole, share, caplog):
    """What SQLite had not flushed is gone after a loss of power: it takes a damaged -wal file for a shorter one."""
    folder = tmp_path / "run-1"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as holder:  # or the -wal file would go with the store
        holder.executescript("PRAGMA journal_mode=WAL; CREATE TABLE somebody_else_s (x)")
        assert attempt(folder, "FedAvg", 9) is None
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
    wal = copy / "runs.sqlite-wal"
    (copy / "runs.sqlite-shm").unlink(missing_ok=True)
    os.truncate(wal, int(wal.stat().st_size * share))
    run, why = comes_to(copy, "FedAvg")
    if run is None:
        assert "No whole version of the model is left" in why
    else:
        assert bits(run) == whole("FedAvg")
    assert "has lost its end" in caplog.text


@pytest.mark.parametrize("kind", ["FedAvg", "FedAdam"])
def test_a_run_that_dies_again_while_it_goes_back_ends_in_the_same_bits(tmp_path, whole, kind):
    expected = whole(kind)
    for left in (0, 1, 2, 3):
        folder = tmp_path / f"again-{left}"
        folder.mkdir()
        assert attempt(folder, kind, 10) is None
        newest = sorted((folder / "run").glob("model-??????.safetensors"))[-1]
        flip(newest)
        assert attempt(folder, kind, left) is None
        assert bits(attempt(folder, kind)) == expected


class Disk:
    """`os`, but it knows which bytes and names are still there after a loss of power."""

    def __init__(self):
        self._paths, self._flushed, self._named = {}, set(), set()

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *mode):
        fd = os.open(path, flags, *mode)
        self._paths[fd] = path
        return fd

    def fsync(self, fd):
        os.fsync(fd)
        path = self._paths[fd]
        if os.path.isdir(path):
            self._named |= {os.path.join(path, name) for name in os.listdir(path)}
        else:
            self._flushed.add(os.fstat(fd).st_ino)

    def lose_power(self, folder):
        """What was not flushed is zeros, or gone."""
        for path in folder.glob("*.safetensors"):
            if path.stat().st_ino not in self._flushed:
                path.write_bytes(bytes(path.stat().st_size))
            elif str(path) not in self._named:
                path.unlink()


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("kind", ["FedAvg", "FedAdam"])
def test_a_loss_of_power_never_leads_to_another_model(tmp_path, whole, monkeypatch, caplog, kind, durability):
    """Under "power" it is as if nothing had been; under "process", what was not flushed is noticed."""
    expected = whole(kind)
    for left in range(3, 16, 3):
        folder = tmp_path / f"died-{left}"
        folder.mkdir()
        disk = Disk()
        with monkeypatch.context() as patched:
            patched.setattr(contents_module, "os", disk)
            assert attempt(folder, kind, left, durability=durability) is None
        disk.lose_power(folder / "run")
        run, why = comes_to(folder, kind, durability=durability)
        if durability == "power":
            assert (why, caplog.text) == ("", "")
        assert "No whole version of the model is left" in why if run is None else bits(run) == expected
    assert (durability == "process") == ("are not those that were written" in caplog.text + why)


def test_the_audit_tells_what_was_lost_and_knows_a_forgery_that_fits_its_checksum(tmp_path, whole, caplog):
    expected = whole("FedAvg")
    assert attempt(tmp_path, "FedAvg", 10, audit=True) is None
    newest = sorted((tmp_path / "run").glob("model-??????.safetensors"))[-1]
    flip(newest)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:  # somebody knows of the crc32
        forged = zlib.crc32(newest.read_bytes()), newest.stem
        assert connection.execute("UPDATE umbel_contents SET crc32 = ? WHERE name = ?", forged).rowcount == 1
        connection.commit()
    assert bits(attempt(tmp_path, "FedAvg", audit=True)) == expected
    assert f"{newest} is damaged" in caplog.text
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'runs.sqlite'}")) as database:
        lines = list(database.audit("run"))
    verify("run", lines)
    assert [line.why for line in lines if line.verdict == "lost"] == [newest.stem]
    final = tmp_path / "run" / "model-000003.safetensors"
    assert [line.content for line in lines if line.verdict == "version"][-1] == digest_of_file(final)
