"""Writes flwr.npz, what flwr 1.41.0's strategies make of the rounds in cases.py. Needs flwr; testing does not.

    pip install flwr==1.41.0
    python tests/strategies/golden/make_flwr.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import cases  # noqa: E402
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server import strategy as flwr  # noqa: E402


def rounds(kind, keywords, equal):
    now = [1]
    extra = {"initial_parameters": ndarrays_to_parameters(cases.initial()), **keywords}
    if kind == "QFedAvg":
        extra["evaluate_fn"] = lambda number, arrays, config: (cases.loss(now[0]), {})
    strategy = getattr(flwr, kind)(**extra)
    if kind == "QFedAvg":
        strategy.pre_weights = cases.initial()
    for number in range(1, cases.ROUNDS + 1):
        now[0] = number
        results = [
            (MagicMock(), FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), count, {}))
            for arrays, count in cases.updates(number, equal=equal)
        ]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        arrays = parameters_to_ndarrays(parameters)
        if kind == "QFedAvg":
            strategy.pre_weights = arrays
        yield np.concatenate([array.ravel() for array in arrays])


def boosted(kind):
    """The booster after each round, as text."""
    strategy = getattr(flwr, kind)()
    for number in range(1, cases.ROUNDS + 1):
        results = [
            (MagicMock(), FitRes(Status(Code.OK, ""), Parameters(tensors=[booster], tensor_type=""), 1, {}))
            for booster in cases.grown(number)
        ]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        yield parameters.tensors[0].decode()


def networks():
    """The mean network of FedXgbNnAvg, whose clients send a pair of objects that no transport of flwr brings."""
    strategy = flwr.FedXgbNnAvg()
    for number in range(1, cases.ROUNDS + 1):
        results = []
        for arrays, count in cases.updates(number):
            res = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), count, {})
            results.append((MagicMock(), FitRes(Status(Code.OK, ""), (res, b""), count, {})))
        (parameters, _), _ = strategy.aggregate_fit(number, results, [])
        yield np.concatenate([array.ravel() for array in parameters_to_ndarrays(parameters)])


answers = {name: np.array(list(rounds(*case))) for name, case in cases.CASES.items()}
answers |= {name: np.array(list(boosted(name))) for name in cases.BOOSTING}
answers["FedXgbNnAvg"] = np.array(list(networks()))
np.savez_compressed(HERE / "flwr.npz", **answers)
print(f"{len(answers)} cases")
