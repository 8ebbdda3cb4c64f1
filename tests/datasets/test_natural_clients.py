"""The example with natural clients as its README runs it: a server and six clients, seven real processes."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
pytestmark = pytest.mark.tutorial

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "natural-clients"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(task, folder, env, port):
    env = env | {"PYTHON": sys.executable, "PORT": str(port)}
    return subprocess.run(
        ["bash", FOLDER / "run.sh", task], cwd=folder, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "loss", "accuracy"), [("visits", "randhie", 0.60, 0.68), ("lines", "shakespeare", 2.1, 0.38)]
)
def test_fifteen_rounds_learn_and_leave_two_pictures(fetched, offline, tmp_path, port, task, name, loss, accuracy):
    fetched(name)
    done = run(task, tmp_path, offline, port)
    assert done.returncode == 0, done.stdout
    rounds = re.findall(r"evaluate: loss (\d\.\d+), accuracy (\d\.\d+)", done.stdout)
    assert len(rounds) == 15, done.stdout
    losses, accuracies = zip(*[map(float, numbers) for numbers in rounds], strict=True)
    assert losses[-1] < loss
    assert losses[-1] < losses[0]
    assert accuracies[-1] > accuracy
    for picture in ("partition", "learning"):
        assert (tmp_path / f"{task}-{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_without_data_it_says_what_to_run_and_ends(offline, tmp_path, port):
    done = run("visits", tmp_path, offline | {"UMBEL_DATA": str(tmp_path / "none")}, port)
    assert done.returncode == 1
    assert "python -m umbel.datasets.fetch randhie" in done.stdout


def test_the_readme_shows_the_table_that_the_command_prints(fetched):
    fetched("randhie")
    readme = (FOLDER / "README.md").read_text()
    command, table = re.search(r"```shell\numbel (data show .*)\n```\n\n```\n((?:.*\n)+?)```", readme).groups()
    code = "import sys; from umbel.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True)
    assert done.stdout == table
