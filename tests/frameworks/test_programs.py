"""The fourteen programs in examples/programs: fifteen lines at most, and each does what its first line says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import umbel

PROGRAMS = Path(__file__).parents[2] / "examples" / "programs"
NEEDS = {
    "analytics": (),
    "callback": ("torch", "sklearn"),
    "early_stopping": ("torch", "sklearn"),
    "jax_digits": ("jax", "flax", "optax", "sklearn"),
    "keras_digits": ("keras", "sklearn"),
    "lora": ("transformers", "peft", "accelerate"),
    "mnist": ("torch", "datasets"),
    "network": ("torch", "sklearn", "cryptography"),
    "own_strategy": ("torch", "sklearn"),
    "personal": ("torch", "sklearn"),
    "resume": ("torch", "sklearn"),
    "sklearn_digits": ("sklearn",),
    "tracker": ("torch", "sklearn", "tensorboard"),
    "trees": ("xgboost", "sklearn"),
}


def lines_of(path):
    text = re.sub(r'^""".*?"""', "", path.read_text(), flags=re.S)
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_there_are_fourteen_and_none_has_more_than_fifteen_lines():
    found = {path.stem: len(lines_of(path)) for path in PROGRAMS.glob("*.py") if path.stem != "digits"}
    assert set(found) == set(NEEDS)
    assert {name: count for name, count in found.items() if not 6 <= count <= 15} == {}
    page = (PROGRAMS / "README.md").read_text()
    assert set(re.findall(r"^\| \[`(\w+)\.py`\]", page, re.M)) == set(NEEDS)


def start(name, folder, *arguments):
    missing = [module for module in NEEDS[name] if find_spec(module) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    place = {"PYTHONPATH": str(Path(umbel.__path__[0]).parent), "KERAS_BACKEND": "jax" if find_spec("jax") else "torch"}
    with (folder / f"{name}{''.join(arguments)}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments],
            cwd=folder,
            env={**os.environ, **place},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def run(name, folder, expected=0):
    """What the program has said."""
    process = start(name, folder)
    try:
        code = process.wait(300)
    finally:
        process.kill()
    said = (folder / f"{name}.log").read_text()
    assert code == expected, said
    assert "failed (raised)" not in said
    return said


def losses(said):
    """The column of the table at the end."""
    rows = said.rpartition("INFO    : round")[2].splitlines()
    return [float(row.split()[3]) for row in rows[1:] if re.match(r"INFO    : +\d+ +\d", row)]


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "name", ["early_stopping", "jax_digits", "keras_digits", "lora", "own_strategy", "personal", "sklearn_digits", "trees"]
)
def test_it_trains(name, tmp_path):
    said = run(name, tmp_path)
    found = losses(said)
    assert found[-1] < found[0], said


@pytest.mark.frameworks
@pytest.mark.slow  # 60,000 pictures, unpacked in each round
def test_mnist_is_learned(tmp_path):
    assert losses(run("mnist", tmp_path))[-1] < 0.6


@pytest.mark.frameworks
def test_analytics_print_the_histogram(tmp_path):
    said = run("analytics", tmp_path)
    shares = [float(number) for number in re.findall(r"\d\.\d*(?:e-\d+)?", said.rpartition("[")[2])]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.frameworks
def test_callbacks_print_and_write(tmp_path):
    said = run("callback", tmp_path)
    assert len(re.findall(r"^round \d: loss \d\.\d{3}, largest weight", said, re.M)) == 5
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 6
    assert dict(umbel.load(tmp_path / "best.safetensors")).keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.frameworks
def test_the_tracker_has_three_runs(tmp_path):
    run("tracker", tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.frameworks
def test_a_killed_run_goes_on(tmp_path):
    run("resume", tmp_path, expected=-signal.SIGKILL)
    said = run("resume", tmp_path)
    assert "Resumed in round" in said
    assert len(losses(said)) == 5


@pytest.mark.frameworks
def test_one_file_is_the_server_and_its_clients_over_tls(tmp_path):
    pytest.importorskip("cryptography")
    certs = [sys.executable, "-c", "import umbel.cli; umbel.cli.main()", "certs", "init", "localhost", "--folder", "."]
    place = {**os.environ, "PYTHONPATH": str(Path(umbel.__path__[0]).parent)}
    subprocess.run(certs, cwd=tmp_path, env=place, check=True, capture_output=True)
    started = [start("network", tmp_path, "serve"), *(start("network", tmp_path, "join", number) for number in "01")]
    try:
        codes = [process.wait(300) for process in started]
    finally:
        for process in started:
            process.kill()
    said = (tmp_path / "networkserve.log").read_text()
    assert codes == [0, 0, 0], said
    assert "https://" in said
    assert len(losses(said)) == 3
