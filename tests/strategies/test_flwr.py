"""The classic strategies against flwr 1.41.0 over four rounds (golden/make_flwr.py writes its answers): through a whole run,
and called by themselves as in a unit test of somebody's program.

What flwr does otherwise is said in the docstrings: its Multi-Krum weighs by numbers of examples (compared with equal ones),
its Bulyan needs `to_keep` and crashes without, its QFedAvg has one loss for all clients, its FedXgbBagging takes of each
booster the first iteration and class 0 (which is all that is compared).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from umbel.client import NumPyClient
from umbel.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.params import as_arrays
from umbel.server import strategy as umbel_strategies
from umbel.testing import run_locally

GOLDEN = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("flwr_cases", GOLDEN / "cases.py")
assert spec is not None
assert spec.loader is not None
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)


class Proxy:
    def __init__(self, cid):
        self.cid = cid


def made(name):
    """The strategy of a case; QFedAvg evaluates on the server, as flwr's has to."""
    kind, keywords, _ = cases.CASES[name]
    keywords = {"initial_parameters": ndarrays_to_parameters(cases.initial()), **keywords}
    if kind == "QFedAvg":
        keywords["evaluate_fn"] = lambda number, arrays, config: (cases.loss(max(number, 1)), {})
    return getattr(umbel_strategies, kind)(**keywords)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("name", cases.CASES)
def test_called_by_itself_a_strategy_answers_as_flwr_s(name):
    strategy, wanted = made(name), np.load(GOLDEN / "flwr.npz")[name]
    for number in range(1, cases.ROUNDS + 1):
        results = [
            (Proxy(str(client)), FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), count, {}))
            for client, (arrays, count) in enumerate(cases.updates(number, equal=cases.CASES[name][2]))
        ]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        assert np.allclose(flat(parameters_to_ndarrays(parameters)), wanted[number - 1], rtol=2e-5, atol=2e-6), number


class Answering(NumPyClient):
    """Gives the updates of cases.py, whatever it is sent."""

    def __init__(self, client, equal):
        self.client, self.equal, self.round = client, equal, 0

    def fit(self, parameters, config):
        self.round += 1
        arrays, count = cases.updates(self.round, equal=self.equal)[self.client]
        return arrays, count, {}


@pytest.mark.parametrize("name", cases.CASES)
@pytest.mark.parametrize("rounds", [1, cases.ROUNDS])
def test_in_a_run_a_strategy_answers_as_flwr_s(name, rounds):
    strategy = made(name)
    strategy.fraction_evaluate = 0.0
    clients = {f"{i:02}": Answering(i, cases.CASES[name][2]) for i in range(cases.CLIENTS)}
    done = run_locally(strategy, clients, num_rounds=rounds)
    assert np.allclose(flat(done.arrays), np.load(GOLDEN / "flwr.npz")[name][rounds - 1], rtol=2e-5, atol=2e-6)


def result(client, arrays, count=1):
    return Proxy(str(client)), FitRes(Status(Code.OK, ""), Parameters.of(as_arrays(arrays)), count, {})


@pytest.mark.parametrize("name", cases.BOOSTING)
def test_boosters_are_put_together_as_flwr_does(name):
    strategy, wanted = getattr(umbel_strategies, name)(), np.load(GOLDEN / "flwr.npz")[name]
    for number in range(1, cases.ROUNDS + 1):
        results = [result(client, [booster]) for client, booster in enumerate(cases.grown(number))]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        assert json.loads(parameters.tensors[0]) == json.loads(str(wanted[number - 1])), number


def test_networks_that_weigh_trees_are_averaged_as_flwr_does():
    strategy, wanted = umbel_strategies.FedXgbNnAvg(), np.load(GOLDEN / "flwr.npz")["FedXgbNnAvg"]
    (booster, *_) = cases.grown(1)
    for number in range(1, cases.ROUNDS + 1):
        results = [result(client, [*arrays, booster], count) for client, (arrays, count) in enumerate(cases.updates(number))]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        assert np.allclose(flat(parameters.arrays()[:2]), wanted[number - 1], rtol=2e-5, atol=2e-6), number
        assert [bytes(blob) for blob in parameters.arrays()[2:]] == [booster] * cases.CLIENTS
