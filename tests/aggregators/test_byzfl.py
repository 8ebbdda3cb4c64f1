"""Our rules against byzfl 0.0.11 on 1,000 random inputs (golden/make_byzfl.py writes its answers)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from umbel.aggregators import Rule, centered_clipping, geometric_median, krum, median, nearest_neighbours
from umbel.aggregators.coordinatewise import mean_around_median, trimmed_mean
from umbel.fold import Contribution, combine, in_memory
from umbel.optimizers import sgd
from umbel.params import Params

GOLDEN = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("cases", GOLDEN / "cases.py")
assert spec is not None
assert spec.loader is not None
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)


def trimmed(f):
    """As many on each side as there are attackers; the strategy's keyword is a fraction."""
    return Rule("trimmed", 1, "", reduce=lambda rows: trimmed_mean(rows, f))


RULES = {
    "median": lambda n, f: median(),
    "trimmed mean": lambda n, f: trimmed(f),
    "Krum": lambda n, f: krum(f),
    "Multi-Krum": lambda n, f: krum(f, n - f - 1),
    "mean around median": lambda n, f: Rule("", 1, "", reduce=lambda rows: mean_around_median(rows, n - f)),
    "geometric median": lambda n, f: geometric_median(150, 0.1),
    "centered clipping": lambda n, f: centered_clipping(2.0, 3),
    "mixed median": lambda n, f: nearest_neighbours(median(), f),
    "mixed trimmed mean": lambda n, f: nearest_neighbours(trimmed(f), f),
    "mixed centered clipping": lambda n, f: nearest_neighbours(centered_clipping(2.0), f),
}


def combined(rule, updates):
    params = [Params.of([update]) for update in updates]
    zero = Params.of([np.zeros(updates.shape[1])])
    blocks = combine(
        zero.schema,
        (zero.schema, in_memory(zero)),
        [Contribution(i, p.schema, in_memory(p), 1) for i, p in enumerate(params)],
        aggregator=rule,
        optimizer=sgd(),
        chunk=1,
    )
    return np.frombuffer(b"".join(bytes(block) for block in blocks))


@pytest.mark.parametrize("name", RULES)
def test_100_random_inputs_agree_with_byzfl(name):
    compared, _ = agreeing(name, range(100))
    assert compared > 80


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_1000_random_inputs_agree_with_byzfl(name):
    compared, everything = agreeing(name, range(cases.COUNT))
    assert everything
    assert compared > 870


def agreeing(name, numbers):
    """Compares a rule with byzfl on these inputs: how many there were, and whether they used up byzfl's answers."""
    answers, at, compared = np.load(GOLDEN / "byzfl.npz")[name], 0, 0
    for number in numbers:
        updates, f = cases.case(number)
        wanted = answers[at : at + updates.shape[1]]
        at += updates.shape[1]
        if np.isnan(wanted).any():  # byzfl has no Krum with so many attackers; and a median of two is any point between
            continue
        compared += 1
        assert np.allclose(combined(RULES[name](len(updates), f), updates), wanted, rtol=1e-6, atol=1e-12), number
    return compared, at == len(answers)
