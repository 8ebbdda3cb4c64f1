"""The MLX quickstart as its README runs it: a server and three clients on real MNIST, four real processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mlx.core", reason="mlx is not installed")
psutil = pytest.importorskip("psutil", reason="psutil is not installed")
pytestmark = pytest.mark.tutorial

RUN = Path(__file__).resolve().parents[2] / "examples" / "quickstart-mlx" / "run.sh"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def left_over(port):
    """The processes that still have the server's address on their command line."""
    return [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if f"127.0.0.1:{port}" in (p.info["cmdline"] or [])]


def test_three_rounds_learn_to_read_digits(mnist_files, offline, tmp_path, port):
    env = offline | {"PYTHON": sys.executable, "PORT": str(port)}
    done = subprocess.run(["bash", RUN], cwd=tmp_path, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    accuracies = [float(found) for found in re.findall(r"evaluate: loss .*accuracy (\d\.\d+)", done.stdout)]
    assert len(accuracies) == 3, done.stdout
    assert accuracies[2] >= 0.80
    assert accuracies[2] > accuracies[0]
    assert left_over(port) == []


def test_without_data_it_says_what_to_run_and_ends(offline, tmp_path, port):
    env = offline | {"PYTHON": sys.executable, "PORT": str(port), "UMBEL_DATA": str(tmp_path / "none")}
    done = subprocess.run(["bash", RUN], cwd=tmp_path, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1
    assert "python -m umbel.datasets.fetch mnist" in done.stdout
    assert "all three clients failed" in done.stdout
    assert left_over(port) == []


@pytest.mark.slow
def test_ctrl_c_ends_all_four(mnist_files, offline, tmp_path, port):
    env = offline | {"PYTHON": sys.executable, "PORT": str(port)}
    with subprocess.Popen(["bash", RUN], cwd=tmp_path, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True) as run:
        for line in run.stdout:
            if "[ROUND 2" in line:
                run.send_signal(signal.SIGINT)
        assert run.wait() == 130
    assert left_over(port) == []
