"""Writes byzfl.npz, what byzfl 0.0.11 makes of the inputs of cases.py. Needs byzfl; testing does not.

    pip install byzfl==0.0.11
    python tests/aggregators/golden/make_byzfl.py
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import cases  # noqa: E402

# The aggregators alone: the package itself imports plots and pictures, too.
byzfl = types.ModuleType("byzfl")
byzfl.__path__ = list(importlib.util.find_spec("byzfl").submodule_search_locations)
sys.modules["byzfl"] = byzfl

from byzfl.aggregators.aggregators import (  # noqa: E402
    CenteredClipping,
    GeometricMedian,
    Krum,
    Meamed,
    Median,
    MultiKrum,
    TrMean,
)
from byzfl.aggregators.preaggregators import NNM  # noqa: E402


def answers(updates, f):
    """By rule, NaN where there is none to compare with.

    byzfl's Krum with f has the n - f - 1 nearest neighbours, the paper's with f - 1 as many. Its geometric median starts
    from 0 and ours from a point among the updates: both are followed to where they agree, and an even number of points on a
    line has no one median.
    """
    line = updates.shape[1] == 1 and len(updates) % 2 == 0
    paper = f + 1 if 2 * (f + 1) < len(updates) else None
    return {
        "median": Median()(updates),
        "trimmed mean": TrMean(f)(updates),
        "Krum": np.full(updates.shape[1], np.nan) if paper is None else Krum(paper)(updates),
        "Multi-Krum": np.full(updates.shape[1], np.nan) if paper is None else MultiKrum(paper)(updates),
        "mean around median": Meamed(f)(updates),
        "geometric median": np.full(1, np.nan) if line else GeometricMedian(nu=0.1, T=150)(updates),
        "centered clipping": CenteredClipping(L=3, tau=2.0)(updates),
        "mixed median": Median()(NNM(f)(updates)),
        "mixed trimmed mean": TrMean(f)(NNM(f)(updates)),
        "mixed centered clipping": CenteredClipping(L=1, tau=2.0)(NNM(f)(updates)),
    }


found: dict[str, list[np.ndarray]] = {}
for number in range(cases.COUNT):
    for rule, answer in answers(*cases.case(number)).items():
        found.setdefault(rule, []).append(answer)
np.savez_compressed(HERE / "byzfl.npz", **{rule: np.concatenate(answers) for rule, answers in found.items()})
print(f"{cases.COUNT} inputs, {len(found)} rules")
