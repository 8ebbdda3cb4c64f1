"""What type checkers, and the editors that ask them, know of `import umbel as fl`, although the package loads on demand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "typed" / "program.py"
ROOT = Path(__file__).parents[1]  # whose cache `make check` has filled


def by_mypy():
    """What it reveals by line, and the lines that it finds wrong."""
    told = run("mypy", "--strict", "--no-error-summary", "--config-file", "pyproject.toml", str(PROGRAM))
    notes = re.findall(r":(\d+): note: Revealed type is \"(.+)\"", told)
    errors = re.findall(r":(\d+): error: ", told)
    return {int(line): name.rpartition(".")[2] for line, name in notes}, {int(line) for line in errors}, told


def by_pyright():
    told = run("basedpyright", "--outputjson", "--pythonpath", sys.executable, str(PROGRAM))
    found = json.loads(told)["generalDiagnostics"]
    lines = [(entry["range"]["start"]["line"] + 1, entry["severity"], entry["message"]) for entry in found]
    types = {line: re.findall(r' is "(\w+)"$', text) for line, severity, text in lines if severity == "information"}
    return {line: names[0] for line, names in types.items() if names}, {at for at, how, _ in lines if how == "error"}, told


def run(*command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.slow  # half a minute where nothing is in mypy's cache
@pytest.mark.parametrize(("tool", "ask"), [("mypy", by_mypy), ("basedpyright", by_pyright)])
def test_a_type_checker_knows_the_front_door(tool, ask):
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: what it makes of `import umbel as fl` is not tested")
    text = PROGRAM.read_text().splitlines()
    is_ = {number: found[1] for number, line in enumerate(text, 1) if (found := re.search(r"# is (\w+)$", line))}
    wrong = {number for number, line in enumerate(text, 1) if line.endswith("# wrong")}
    revealed, errors, told = ask()
    assert revealed == is_, told
    assert errors == wrong, told
