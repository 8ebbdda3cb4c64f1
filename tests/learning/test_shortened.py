"""Cells of bench/learning.py at a fraction of their length, on real MNIST: that they learn, not what a paper found."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest

from umbel.errors import DataError

pytestmark = pytest.mark.tutorial

spec = importlib.util.spec_from_file_location("learning", Path(__file__).parents[2] / "bench" / "learning.py")
assert spec is not None
assert spec.loader is not None
learning = importlib.util.module_from_spec(spec)
sys.modules["learning"] = learning  # its dataclasses look themselves up
spec.loader.exec_module(learning)


@pytest.fixture(autouse=True)
def data():
    try:
        learning.mnist()
    except (DataError, OSError) as error:
        pytest.skip(f"MNIST is not here: {error}")


def best_of(capsys):
    """The accuracies that a cell reports every 20 rounds."""
    said = capsys.readouterr().err
    return [float(line.rpartition(": ")[2]) for line in said.splitlines() if line.strip().startswith("round ")]


@pytest.mark.slow
@pytest.mark.parametrize(("iid", "at_least"), [(True, 0.93), (False, 0.75)], ids=["iid", "two-shards"])
def test_fedavg_learns_digits_in_twenty_rounds(iid, at_least, capsys):
    options = argparse.Namespace(rate=0.1, part=1.0)
    learning.fedavg(iid=iid, rounds=20)(1, options)
    assert best_of(capsys)[-1] > at_least  # seen: 0.948, and 0.849 of another seed


def test_a_curve_is_made_monotone_and_interpolated():
    assert learning.rounds_to(0.97, [0.5, 0.96, 0.95, 0.98]) == pytest.approx(3.5)
    assert learning.rounds_to(0.4, [0.5]) == pytest.approx(0.8)
    assert learning.rounds_to(0.99, [0.5, 0.96]) != learning.rounds_to(0.99, [0.5, 0.96])  # NaN: not reached


def test_a_verdict_follows_the_rule():
    rounds, accuracy = learning.Published(87, "rounds"), learning.Published(91.7, "%", 10.0)
    assert rounds.verdict([70, 80]) == "reproduced"
    assert rounds.verdict([50, 60]) == "not reproduced: sooner"
    assert rounds.verdict([80, float("nan")]) == "not reproduced: not reached"
    assert accuracy.verdict([75.0]) == "reproduced"
    assert accuracy.verdict([65.0]) == "not reproduced"
