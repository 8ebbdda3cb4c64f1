"""examples/xgboost: real boosters of six owners, beside a model of all rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.datasets.catalogue import CATALOGUE
from umbel.errors import DataError

EXAMPLE = Path(__file__).parents[2] / "examples" / "xgboost"


def compared(data: str, rounds: int) -> dict[str, float]:
    """The table that the example ends with."""
    pytest.importorskip("xgboost")
    for name in CATALOGUE[data].files.sha256:
        try:
            CATALOGUE[data].files.read(name)
        except DataError as error:
            pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "compare.py", data, "--rounds", str(rounds)],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {name: float(value) for name, value in re.findall(r"^(\w[\w ]+?) +(0\.\d{4})$", done.stdout, re.MULTILINE)}


@pytest.mark.slow
@pytest.mark.system
def test_tumours_give_the_table_of_the_readme():
    found = compared("breast_cancer", 20)
    shown = re.findall(r"^\| (\w[\w ]+?) \| (0\.\d+) \|", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert len(shown) == 5
    assert {name: round(value, 3) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in shown}, abs=0.015
    )


@pytest.mark.slow
@pytest.mark.system
def test_of_26_letters_most_are_known_after_two_rounds():
    found = compared("letters", 2)
    assert found["the largest class"] < 0.05
    assert found["cyclic"] > 0.5
    assert found["bagging"] > 0.5
    assert found["all rows in one place"] > 0.6
