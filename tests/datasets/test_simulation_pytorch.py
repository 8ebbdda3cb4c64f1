"""The PyTorch simulation as its README runs it, for fewer rounds: a hundred clients on real MNIST."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
pytestmark = pytest.mark.tutorial

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "simulation-pytorch" / "simulation.py"


def run(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], cwd=folder, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True
    )


def rounds(said):
    return re.findall(r"^INFO    : +\d+ +(\d\.\d+) +(\d\.\d+)$", said, re.M)


@pytest.mark.slow
def test_a_hundred_uneven_clients_learn_to_read_digits(mnist_files, offline, tmp_path):
    done = run(tmp_path, offline, "--rounds", "6", "--backend", "inline")
    assert done.returncode == 0, done.stdout
    accuracies = [float(accuracy) for _, accuracy in rounds(done.stdout)]
    assert len(accuracies) == 7, done.stdout
    assert accuracies[0] < 0.2
    assert accuracies[-1] > 0.6
    for picture in ("partition.png", "learning.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")

    elsewhere = run(tmp_path, offline, "--rounds", "2", "--backend", "processes")
    assert rounds(elsewhere.stdout) == rounds(done.stdout)[:3]


@pytest.mark.slow
def test_other_owners_with_another_alpha(mnist_files, offline, tmp_path):
    done = run(tmp_path, offline, "--rounds", "1", "--backend", "inline", "--alpha", "100")
    assert done.returncode == 0, done.stdout
    assert len(rounds(done.stdout)) == 2


def test_without_data_it_says_what_to_run_and_ends(offline, tmp_path):
    done = run(tmp_path, offline | {"UMBEL_DATA": str(tmp_path / "none")})
    assert done.returncode == 1
    assert "python -m umbel.datasets.fetch mnist" in done.stdout
