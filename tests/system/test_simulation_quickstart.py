"""The simulation quickstart as its README runs it, and what the README says to try."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")

pytestmark = pytest.mark.system

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "simulation-quickstart"
PROGRAM = (FOLDER / "digits.py").read_text()
# a proxy that is not there: nothing is fetched
ENVIRONMENT = os.environ | {"MPLBACKEND": "Agg", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def run(program, folder, stdin=""):
    (folder / "digits.py").write_text(program)
    return subprocess.run(
        [sys.executable, "digits.py"], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, timeout=300
    )


def changed(before, after):
    assert before in PROGRAM
    return PROGRAM.replace(before, after)


def accuracies(said):
    return [float(accuracy) for accuracy in re.findall(r"evaluate: loss .*accuracy (\d\.\d+)", said)]


def test_it_reads_digits_within_ten_seconds_and_prints_the_table_of_the_readme(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(PROGRAM, tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10  # CPU: others may use the machine
    assert accuracies(done.stderr)[-1] > 0.9
    promised = re.search(r"```\n(INFO    : round.*?)How it learned", (FOLDER / "README.md").read_text(), re.S)[1]
    assert numbers(promised) == pytest.approx(numbers(done.stderr[done.stderr.index("INFO    : round    loss") :]), abs=0.02)
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def numbers(table):
    return [float(number) for number in re.findall(r"\d+\.\d+", table)]


@pytest.mark.slow
def test_the_result_is_the_same_in_other_processes(tmp_path):
    here = run(PROGRAM, tmp_path)
    there = run(changed('backend="inline"', 'backend="processes", workers=2'), tmp_path)
    table = "INFO    : round    loss"
    assert here.stderr[here.stderr.index(table) :] == there.stderr[there.stderr.index(table) :]


def test_a_debugger_stops_inside_an_owner(tmp_path):
    start = "    def fit(self, parameters, config):\n"
    program = changed(start, f"{start}        breakpoint()\n")
    done = run(program, tmp_path, stdin="len(self.train_labels)\nparameters[0].shape\nc\nq\n")
    said = [line.removeprefix("(Pdb) ") for line in done.stdout.splitlines()]
    assert "72" in said
    assert "(10, 64)" in said
    assert "stopped by Ctrl-C" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_owner_that_fails_is_named_and_the_others_go_on(tmp_path):
    start = "    def __init__(self, number: int) -> None:\n"
    program = changed(start, f'{start}        if number == 3:\n            raise ValueError("no digits today")\n')
    done = run(program + "print(history.failures[0])\n", tmp_path)
    assert "client 3 failed (raised): evaluate raised ValueError: no digits today" in done.stderr
    assert re.search(r"FailureNote\(round=1, .*client='3'.*digits\.py\\?\", line \d+, in __init__", done.stdout)
    assert accuracies(done.stderr)[-1] > 0.9


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("NUM_CLIENTS = 20", "NUM_CLIENTS = 200"),
        ("mine = order[number::NUM_CLIENTS]", "mine = np.array_split(np.argsort(labels), NUM_CLIENTS)[number]"),
        ('history.plot().savefig("learning.png")', "print(history.to_pandas())"),
    ],
)
def test_what_the_readme_says_to_try_works(tmp_path, before, after):
    done = run(changed(before, after).replace("num_rounds=10", "num_rounds=2"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(accuracies(done.stderr)) == 2
