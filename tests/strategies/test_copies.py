"""What a strategy is given can be kept: pickled without what belongs to the run, and copied with it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import umbel as fl
from umbel.common import parameters_to_ndarrays
from umbel.context import Context
from umbel.server.strategy import FedAdam, FedAvg, FedMedian
from umbel.testing import run_locally


class Learner(fl.client.NumPyClient):
    def __init__(self, step):
        self.step = step

    def get_parameters(self, config):
        return [np.zeros(3), np.ones((2, 2), "float32")]

    def fit(self, parameters, config):
        return [array + array.dtype.type(self.step) for array in parameters], 3, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 3, {}


CLIENTS = {"a": Learner(1.25), "b": Learner(2.5), "c": Learner(0.75)}


def arrays_of(parameters):
    return [array.tolist() for array in parameters_to_ndarrays(parameters)]


def test_everything_that_a_strategy_is_given_can_be_pickled():
    seen = []

    def there_and_back(value):
        back = pickle.loads(pickle.dumps(value))
        assert type(back) is type(value)
        seen.append(type(back).__name__)
        return back

    class Keeps(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = super().configure_fit(server_round, parameters, client_manager)
            for _, ins in chosen:
                assert arrays_of(there_and_back(ins).parameters) == arrays_of(ins.parameters)
            return chosen

        def aggregate_fit(self, server_round, results, failures):
            for _, res in results:
                back = there_and_back(res)
                assert (back.num_examples, back.metrics, back.status) == (res.num_examples, res.metrics, res.status)
                assert arrays_of(back.parameters) == arrays_of(res.parameters)
            return super().aggregate_fit(server_round, results, failures)

        def configure_evaluate(self, server_round, parameters, client_manager):
            chosen = super().configure_evaluate(server_round, parameters, client_manager)
            assert [there_and_back(ins).config for _, ins in chosen] == [{}] * 3
            return chosen

        def aggregate_evaluate(self, server_round, results, failures):
            assert [there_and_back(res) for _, res in results] == [res for _, res in results]
            return super().aggregate_evaluate(server_round, results, failures)

    run_locally(Keeps(), CLIENTS, num_rounds=1)
    assert {name: seen.count(name) for name in seen} == {"FitIns": 3, "FitRes": 3, "EvaluateIns": 3, "EvaluateRes": 3}


@pytest.mark.parametrize("base", [FedAvg, FedAdam, FedMedian])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_results_combine_to_the_same_bits(base, copied):
    class Copies(base):
        def aggregate_fit(self, server_round, results, failures):
            results = [(copied(proxy), copied(res)) for proxy, res in results]
            results[0][1].metrics["mine"] = 1
            return super().aggregate_fit(server_round, copied(results), failures)

    options = {}
    if base is FedAdam:
        options["initial_parameters"] = fl.common.ndarrays_to_parameters(Learner(0).get_parameters({}))
    plain, own = (run_locally(cls(**options), CLIENTS, num_rounds=3).arrays for cls in (base, Copies))
    assert [array.tobytes() for array in plain] == [array.tobytes() for array in own]


def test_a_subclass_of_a_result_keeps_what_it_has():
    result = fl.common.FitRes(fl.common.Status(fl.common.Code.OK), fl.common.ndarrays_to_parameters([np.ones(2)]), 1, {})
    result.note = "mine"
    for copied in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert copied.note == "mine"
        assert copied == result


def test_a_proxy_says_why_it_cannot_be_pickled():
    class Pickles(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            with pytest.raises(TypeError, match="the proxy of client a is of this run and cannot be pickled; keep its cid"):
                pickle.dumps(results)
            return super().aggregate_fit(server_round, results, failures)

    run_locally(Pickles(), CLIENTS, num_rounds=1)


def test_a_context_can_be_pickled():
    context = Context("a", {"partition-id": 3}, {}, {"mean": np.ones(3), "seen": 2}, 7, 1)
    back = pickle.loads(pickle.dumps(context))
    assert (back.node_id, back.seed, back.round, back.state["seen"]) == ("a", 7, 1, 2)
    assert copy.deepcopy(context).rng().random() == context.rng().random()
