"""What the owner's own code returns is checked where it returns it: the error names the method and the array."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.common import FitIns, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.errors import StrategyError
from umbel.params import Params
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.server.strategy import FedAvg, FedMedian, FLTrust, Strategy
from umbel.strategies.returned import check_parameters
from umbel.testing import run_locally
from umbel.training import NumPyClient

START = [np.zeros(3, "float32"), np.ones((2, 2), "float32")]
NAN = [np.zeros(3, "float32"), np.array([[0, 1], [np.nan, 2]], "float32")]


class Adds(NumPyClient):
    def fit(self, parameters, config):
        return [a + np.asarray(1, a.dtype) for a in parameters], 1, {}

    def get_parameters(self, config):
        return START


def returns(value, base=FedAvg, **members):
    """A strategy whose own aggregate_fit returns this, or what it makes of what Umbel combines."""

    def aggregate_fit(self, server_round, results, failures):
        mine = base.aggregate_fit(self, server_round, results, failures)[0]
        return value(mine) if callable(value) else value, {}

    kind = type("Mine", (base,), {"aggregate_fit": aggregate_fit, **members})
    return kind(initial_parameters=ndarrays_to_parameters(START), fraction_evaluate=0.0)


def run(strategy, rounds=2):
    return run_locally(strategy, {"a": Adds(), "b": Adds()}, num_rounds=rounds)


P = ndarrays_to_parameters


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (P(NAN), r"aggregate_fit\(\) returned nan in array 1, shape \(2, 2\); a model of finite numbers is needed"),
        (P([np.full(3, -np.inf), START[1]]), r"aggregate_fit\(\) returned -inf in array 0, shape \(3,\)"),
        (P([np.full(3, np.inf, "float16"), START[1]]), r"returned inf in array 0"),
        (P(START[:1]), r"returned 1 arrays, the model has 2; missing '1', shape \(2, 2\)\. Return every array, or None"),
        (P([]), r"aggregate_fit\(\) returned no arrays, the model has 2; missing '0'.*None to keep the model"),
        (P([*START, START[0]]), r"returned 3 arrays, the model has 2; array 2 of shape \(3,\) is one too many"),
        (P([START[1], START[0]]), r"returned array 0 with shape \(2, 2\), the model has \(3,\) there"),
        (P([START[0].reshape(1, 3), START[1]]), r"returned array 0 with shape \(1, 3\).*receives = \"anything\""),
        (START, r"aggregate_fit\(\) returned a list for parameters; return Parameters"),
        (Parameters([b"no numbers"]), r"aggregate_fit\(\) returned parameters that cannot travel: .*what numpy.save writes"),
        (Parameters([b"trees", b"more"], ""), r"aggregate_fit\(\) returned array 0 with shape \(5,\)"),
    ],
)
def test_what_aggregate_fit_returns_is_an_error_in_its_own_round(value, said):
    with pytest.raises(StrategyError, match=said):
        run(returns(value), rounds=1)


def test_what_it_makes_of_what_umbel_has_combined_is_checked_too():
    def spoil(mine):
        arrays = parameters_to_ndarrays(mine)
        arrays[1][0, 0] = np.nan
        return ndarrays_to_parameters(arrays)

    with pytest.raises(StrategyError, match=r"aggregate_fit\(\) returned nan in array 1"):
        run(returns(spoil))


def test_nothing_is_left_of_a_version_that_was_refused(tmp_path):
    with pytest.raises(StrategyError):
        run_locally(returns(P(NAN)), {"a": Adds(), "b": Adds()}, store=MemoryStore(FileContents(tmp_path)))
    assert {path.name for path in tmp_path.glob("*model-*")} == {"model-000000.safetensors"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        lambda mine: mine,
        lambda mine: P(parameters_to_ndarrays(mine)),
        lambda mine: P([a.astype("float64") for a in mine.arrays()]),
        lambda mine: Parameters(mine.tensors),
    ],
    ids=["none", "combined", "copied", "float64", "bytes"],
)
def test_what_programs_rightly_return_is_taken(value):
    assert run(returns(value)).coordinator.state.completed == 2


def test_a_strategy_that_says_so_may_change_the_form_of_its_model():
    grown = returns(lambda mine: P([np.zeros(7), *START]), receives="anything")
    assert [a.shape for a in run(grown, rounds=1).arrays] == [(7,), (3,), (2, 2)]


def test_names_that_came_from_a_client_stay_where_arrays_come_without():
    model = Params.of({"fc.weight": START[0], "fc.bias": START[1]}).schema
    given = check_parameters("aggregate_fit", P([a.astype("float64") for a in START]), model)
    assert given.stream()[0].names == ("fc.weight", "fc.bias")


class Own(Strategy):
    """A strategy of somebody's own, from scratch."""

    def __init__(self, start):
        self.start = start

    def initialize_parameters(self, client_manager):
        return self.start

    def configure_fit(self, server_round, parameters, client_manager):
        return [(client, FitIns(parameters, {})) for client in client_manager.sample(2)]

    def aggregate_fit(self, server_round, results, failures):
        return P([np.concatenate([a.reshape(-1) for _, res in results for a in res.parameters.arrays()])]), {}

    def configure_evaluate(self, server_round, parameters, client_manager):
        return []

    def aggregate_evaluate(self, server_round, results, failures):
        return None, {}

    def evaluate(self, server_round, parameters):
        return None


def test_a_model_that_begins_without_arrays_may_become_anything():
    class Counts(NumPyClient):
        def fit(self, parameters, config):
            return [np.arange(3)], 1, {}

    made = run_locally(Own(P([])), {"a": Counts(), "b": Counts()}, num_rounds=1)
    assert made.arrays[0].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (P(NAN), r"initialize_parameters\(\) returned nan in array 1, shape \(2, 2\)"),
        (START, r"initialize_parameters\(\) returned a list for parameters"),
        (Parameters([b"no numbers"]), r"initialize_parameters\(\) returned parameters that cannot travel"),
    ],
)
def test_initial_parameters_are_checked_before_anyone_gets_them(start, said):
    with pytest.raises(StrategyError, match=said):
        run(Own(start))


def test_initial_parameters_without_arrays_are_said_where_updates_are_to_be_like_them():
    with pytest.raises(StrategyError, match=r"initialize_parameters\(\) returned no arrays; return the model's, or None"):
        run(FedAvg(initial_parameters=P([])))


def test_parameters_that_configure_fit_makes_for_a_client_are_finite():
    class Mine(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            chosen = super().configure_fit(server_round, parameters, client_manager)
            return [(client, FitIns(P(NAN), ins.config)) for client, ins in chosen]

    with pytest.raises(StrategyError, match=r"configure_fit\(\) returned nan in array 1"):
        run(Mine(initial_parameters=P(START)))


@pytest.mark.parametrize(
    ("trained", "said"),
    [(NAN, r"root_fit\(\) returned nan in array 1"), ([["a"]], r"root_fit\(\) returned arrays that cannot travel")],
)
def test_what_the_server_trains_itself_is_checked(trained, said):
    with pytest.raises(StrategyError, match=said):
        run(FLTrust(root_fit=lambda number, arrays: trained, initial_parameters=P(START), fraction_evaluate=0.0))


def test_a_robust_strategy_of_somebody_s_own_is_checked_as_well():
    with pytest.raises(StrategyError, match=r"aggregate_fit\(\) returned nan in array 1"):
        run(returns(P(NAN), FedMedian))
