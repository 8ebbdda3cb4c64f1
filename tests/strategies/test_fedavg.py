"""FedAvg as programs know it: its methods called by hand, its keywords, and strategies that people derive from it."""

from __future__ import annotations

import contextlib
import functools
import logging

import numpy as np
import pytest

from umbel.common import EvaluateRes, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.common.typing import Code, GetPropertiesRes
from umbel.errors import StrategyError
from umbel.pace import Pace
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.selectors import sample, uniform
from umbel.server import ClientProxy, Criterion, SimpleClientManager
from umbel.server.strategy import FaultTolerantFedAvg, FedAvg, FedAvgM, FedMedian, FedXgbBagging, QFedAvg
from umbel.strategies.base import Strategy
from umbel.strategies.classic.adapter import host_of
from umbel.strategies.clients import NotEnoughClients
from umbel.strategies.fedavg import average_metrics
from umbel.testing import check_strategy, run_locally
from umbel.training import NumPyClient

OK = Status(Code.OK)


class Somebody(ClientProxy):
    """A client that only has a name and properties."""

    def get_properties(self, ins, timeout=None, group_id=None):
        return GetPropertiesRes(OK, self.properties)

    def get_parameters(self, ins, timeout=None, group_id=None):
        raise NotImplementedError

    fit = evaluate = get_parameters


def manager(count):
    people = SimpleClientManager()
    people.rng = lambda: np.random.RandomState(0)
    for number in range(count):
        people.register(Somebody(f"client-{number}"))
    return people


def fit_res(values, count=1, **metrics):
    return Somebody("x"), FitRes(OK, ndarrays_to_parameters([np.asarray(values)]), count, metrics)


def evaluate_res(loss, count, **metrics):
    return Somebody("x"), EvaluateRes(OK, loss, count, metrics)


# ---- who takes part


@pytest.mark.parametrize(
    ("available", "fraction", "least", "expected"),
    [(10, 1.0, 2, 10), (10, 0.5, 2, 5), (10, 0.1, 2, 2), (10, 0.19, 1, 1), (3, 0.99, 1, 2), (0, 1.0, 2, 2), (7, 0.0, 0, 0)],
)
def test_the_cohort_is_the_fraction_cut_off_but_never_below_the_least(available, fraction, least, expected):
    strategy = FedAvg(fraction_fit=fraction, min_fit_clients=least, fraction_evaluate=fraction, min_evaluate_clients=least)
    assert strategy.num_fit_clients(available) == (expected, max(2, expected))
    assert strategy.num_evaluation_clients(available) == (expected, max(2, expected))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_is_between_0_and_1(fraction):
    with pytest.raises(ValueError, match=r"fraction_fit=.*; it is a part of the present clients, from 0 to 1"):
        FedAvg(fraction_fit=fraction)


def test_configure_fit_hands_the_model_and_the_config_to_a_sample():
    strategy = FedAvg(fraction_fit=0.5, on_fit_config_fn=lambda number: {"lr": 1 / number})
    model = ndarrays_to_parameters([np.zeros(2)])
    chosen = strategy.configure_fit(4, model, manager(6))
    assert len(chosen) == 3
    assert [client.cid for client, _ in chosen] == sorted(client.cid for client, _ in chosen)
    assert all(ins.parameters is model and ins.config == {"lr": 0.25} for _, ins in chosen)
    chosen[0][1].config["lr"] = 9
    assert chosen[1][1].config == {"lr": 0.25}


def test_configure_evaluate_may_be_switched_off():
    model = ndarrays_to_parameters([np.zeros(2)])
    assert FedAvg(fraction_evaluate=0.0).configure_evaluate(1, model, manager(3)) == []
    assert len(FedAvg(on_evaluate_config_fn=lambda n: {"n": n}).configure_evaluate(1, model, manager(3))) == 3


def test_too_few_clients_are_a_wish_that_ordinary_code_lets_pass():
    with pytest.raises(NotEnoughClients) as wish:
        FedAvg(min_available_clients=5).configure_fit(1, ndarrays_to_parameters([]), manager(3))
    assert wish.value.needed == 5
    assert not isinstance(wish.value, Exception)


def test_a_config_is_asked_for_once_there_are_enough_clients():
    asked = []
    strategy = FedAvg(
        min_available_clients=5,
        on_fit_config_fn=lambda number: asked.append(("fit", number)) or {},
        on_evaluate_config_fn=lambda number: asked.append(("evaluate", number)) or {},
    )
    model = ndarrays_to_parameters([])
    for count in (3, 4, 5):
        for configure in (strategy.configure_fit, strategy.configure_evaluate):
            with contextlib.suppress(NotEnoughClients):
                configure(1, model, manager(count))
    assert asked == [("fit", 1), ("evaluate", 1)]


def test_a_criterion_decides_who_may_be_sampled():
    class Even(Criterion):
        def select(self, client):
            return int(client.cid[-1]) % 2 == 0

    people = manager(6)
    assert {client.cid for client in people.sample(3, criterion=Even())} == {"client-0", "client-2", "client-4"}
    assert people.sample(4, criterion=Even()) == []


def test_the_manager_knows_each_name_once():
    people = manager(2)
    assert people.num_available() == len(people) == 2
    assert not people.register(Somebody("client-0"))
    people.unregister(Somebody("nobody"))
    people.unregister(Somebody("client-0"))
    assert list(people.all()) == ["client-1"]
    assert people.wait_for(1)


def test_a_sample_depends_on_the_names_and_the_place_alone():
    names = [f"c{i}" for i in range(20)]
    def draw(who, seed):
        return sample(who, 5, lambda seed=seed: np.random.RandomState(seed))

    assert draw(names, 1) == draw(names[::-1], 1)
    assert draw(names, 1) != draw(names, 2)
    assert uniform(fraction=0.1, min_clients=3, min_available=8).size(20) == (3, 8)


def test_everybody_is_sampled_equally_often():
    counts = dict.fromkeys("abcde", 0)
    for seed in range(2000):
        for name in sample("abcde", 2, lambda seed=seed: np.random.RandomState(seed)):
            counts[name] += 1
    assert all(abs(count - 800) < 100 for count in counts.values())


# ---- how updates become one


def test_aggregate_fit_by_hand():
    parameters, metrics = FedAvg().aggregate_fit(1, [fit_res([1.0, 2.0], 1, loss=1.0), fit_res([5.0, 6.0], 3, loss=2.0)], [])
    assert parameters_to_ndarrays(parameters)[0].tolist() == [4.0, 5.0]
    assert metrics == {"loss": 1.75}
    assert len(parameters) == 1
    assert len(parameters.tensors) == 1


def test_no_results_keep_the_model():
    assert FedAvg().aggregate_fit(1, [], []) == (None, {})
    assert FedAvg().aggregate_evaluate(1, [], [ValueError("x")]) == (None, {})


def test_failures_are_accepted_unless_they_are_not():
    results, failures = [fit_res([1.0])], [RuntimeError("client b: no")]
    assert FedAvg().aggregate_fit(1, results, failures)[0] is not None
    assert FedAvg(accept_failures=False).aggregate_fit(1, results, failures) == (None, {})
    assert FedAvg(accept_failures=False).aggregate_evaluate(1, [evaluate_res(1.0, 1)], failures) == (None, {})
    assert FedAvg(accept_failures=False).aggregate_fit(1, results, [])[0] is not None


def test_results_without_any_example_keep_the_model():
    assert FedAvg().aggregate_fit(1, [fit_res([1.0], 0, a=1), fit_res([2.0], 0, a=3)], []) == (None, {"a": 2.0})


@pytest.mark.parametrize("other", [[1.0], [[1.0, 2.0]], 1.0, [1.0, 2.0, 3.0]])
def test_results_of_different_shapes_are_refused_by_hand_too(other):
    with pytest.raises(StrategyError, match="client x returned arrays of shapes"):
        FedAvg().aggregate_fit(1, [fit_res([1.0, 2.0]), fit_res(other)], [])


def test_losses_are_averaged_by_examples():
    results = [evaluate_res(1.0, 1, accuracy=0.5), evaluate_res(2.0, 3, accuracy=0.9)]
    assert FedAvg().aggregate_evaluate(1, results, []) == (1.75, {"accuracy": pytest.approx(0.8)})


def test_metrics_are_averaged_over_the_clients_that_sent_them():
    sent = [(1, {"a": 1.0, "site": "A", "ok": True}), (3, {"a": 2, "ok": False, "raw": b"x"}), (4, {"b": 5.0})]
    assert average_metrics(sent) == {"a": 1.75, "ok": 0.25, "b": 5.0}


def test_metrics_of_clients_without_examples_count_equally():
    assert average_metrics([(0, {"a": 1.0}), (0, {"a": 2.0})]) == {"a": 1.5}


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [({"best": 3}, {"best": 3}), (None, {}), (0.5, {"value": 0.5}), ([1, 2], {"value": [1, 2]}), ({}, {})],
)
def test_a_metrics_function_may_return_anything(returned, metrics):
    seen = []

    def function(sent):
        seen.extend(sent)
        return returned

    strategy = FedAvg(fit_metrics_aggregation_fn=function, evaluate_metrics_aggregation_fn=function)
    assert strategy.aggregate_fit(1, [fit_res([1.0], 2, a=1)], [])[1] == metrics
    assert strategy.aggregate_evaluate(1, [evaluate_res(1.0, 2, a=1)], []) == (1.0, metrics)
    assert seen == [(2, {"a": 1}), (2, {"a": 1})]


def test_the_central_evaluation_gets_arrays():
    seen = []

    def evaluate(number, arrays, config):
        seen.append((number, [a.tolist() for a in arrays], config))
        return 0.5, {"accuracy": 0.9}

    model = ndarrays_to_parameters([np.ones(2)])
    assert FedAvg(evaluate_fn=evaluate).evaluate(3, model) == (0.5, {"accuracy": 0.9})
    assert seen == [(3, [[1.0, 1.0]], {})]
    assert FedAvg().evaluate(3, model) is None
    assert FedAvg(evaluate_fn=lambda *_: None).evaluate(3, model) is None


# ---- parameters


def test_parameters_are_the_bytes_of_numpy_save_when_somebody_asks():
    parameters = ndarrays_to_parameters([np.arange(3), np.ones((2, 2), "float32")])
    again = Parameters(parameters.tensors)
    assert again == parameters
    assert again.tensor_type == "numpy.ndarray"
    assert [a.tolist() for a in parameters_to_ndarrays(again)] == [[0, 1, 2], [[1, 1], [1, 1]]]


def test_parameters_are_what_the_arrays_were():
    given = [np.zeros(2), np.ones((3, 2), "float32").T, np.array(3)]
    parameters = ndarrays_to_parameters(given)
    for array in [*given, *parameters_to_ndarrays(parameters)]:
        array += 5
    assert [a.tolist() for a in parameters_to_ndarrays(parameters)] == [[0, 0], [[1, 1, 1], [1, 1, 1]], 3]


def test_a_norm_taken_in_place_leaves_the_update_as_it_came():
    class Measuring(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            for _, res in results:
                for array in parameters_to_ndarrays(res.parameters):
                    array -= 100
            return super().aggregate_fit(server_round, results, failures)

    parameters, _ = Measuring().aggregate_fit(1, [fit_res([1.0]), fit_res([3.0])], [])
    assert parameters_to_ndarrays(parameters)[0].tolist() == [2.0]


def test_parameters_never_read_a_pickle():
    import pickle

    with pytest.raises(ValueError, match=r"not what numpy\.save writes"):
        parameters_to_ndarrays(Parameters([pickle.dumps([1, 2])]))


def test_parameters_survive_a_pickle_of_their_own():
    import pickle

    parameters = ndarrays_to_parameters([np.arange(3)])
    assert pickle.loads(pickle.dumps(parameters)) == parameters


# ---- whose aggregate_fit


class Saving(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return super().aggregate_fit(server_round, results, failures)


class Own(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return results[0][1].parameters, {}


class SavingOwn(Own):
    def aggregate_fit(self, server_round, results, failures):
        return super().aggregate_fit(server_round, results, failures)


def timed(method):
    @functools.wraps(method)
    def within(*arguments):
        return method(*arguments)

    return within


class Decorated(FedAvg):
    aggregate_fit = timed(Saving.aggregate_fit)


class Nested(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        def combine():
            return super(Nested, self).aggregate_fit(server_round, results, failures)

        return combine()


class Helped(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return self.combine(server_round, results, failures)

    def combine(self, *round_):
        return super().aggregate_fit(*round_)


class Patched(FedAvg):
    pass


Patched.aggregate_fit = lambda self, *round_: FedAvg.aggregate_fit(self, *round_)


class DecoratedOwn(FedAvg):
    aggregate_fit = timed(Own.aggregate_fit)

    def unused(self):
        return super().aggregate_fit


class Holding(Strategy):
    """Leaves everything to another strategy, as flwr's wrappers for privacy do."""

    def __init__(self, strategy):
        self.strategy = strategy

    def initialize_parameters(self, client_manager):
        return self.strategy.initialize_parameters(client_manager)

    def configure_fit(self, server_round, parameters, client_manager):
        return self.strategy.configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        return self.strategy.aggregate_fit(server_round, results, failures)

    def configure_evaluate(self, server_round, parameters, client_manager):
        return self.strategy.configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(self, server_round, results, failures):
        return self.strategy.aggregate_evaluate(server_round, results, failures)

    def evaluate(self, server_round, parameters):
        return self.strategy.evaluate(server_round, parameters)


class Says(FedAvg):
    receives = "updates"

    def aggregate_fit(self, server_round, results, failures):
        return results[0][1].parameters, {}


class Silent(Says):
    def aggregate_fit(self, server_round, results, failures):
        return super().aggregate_fit(server_round, results, failures)


class SaysLater(Silent):
    receives = "sum"


def of_its_own():
    strategy = FedAvg()
    strategy.aggregate_fit = lambda *round_: (None, {})
    return strategy


def saying():
    strategy = Saving()
    strategy.receives = "updates"
    return strategy


@pytest.mark.parametrize(
    ("strategy", "receives", "adds_up"),
    [
        (FedAvg, "sum", True),
        (FedMedian, "sum", False),
        (QFedAvg, "updates", False),
        (FedXgbBagging, "anything", False),
        (FaultTolerantFedAvg, "sum", True),
        (type("Plain", (FedAvg,), {"configure_fit": None}), "sum", True),
        (Saving, None, True),
        (Decorated, None, True),
        (Nested, None, True),
        (Helped, None, True),
        (Patched, None, True),
        (Own, None, True),
        (SavingOwn, None, True),
        (of_its_own, None, True),
        (saying, "updates", False),
        (Says, "updates", False),
        (Silent, None, True),
        (SaysLater, "sum", True),
        (lambda: Holding(Saving()), None, True),
        (lambda: Holding(QFedAvg()), None, False),
        (lambda: Holding(FedXgbBagging()), None, False),
        (lambda: Holding(3), None, False),
    ],
)
def test_what_a_class_says_it_receives_holds_for_the_method_that_it_has(strategy, receives, adds_up):
    made = strategy()
    assert host_of(made).declared.receives == receives
    assert (host_of(made).declared.adds_up(Pace(quorum=0)) is not None) is adds_up


def test_a_strategy_that_says_what_nobody_knows_is_told_what_there_is():
    with pytest.raises(StrategyError, match=r"Own\.receives is 'sums'; it is one of 'sum', 'updates', 'anything'"):
        host_of(type("Own", (FedAvg,), {"receives": "sums", "aggregate_fit": None})())


def test_what_a_strategy_within_another_remembers_survives_and_leaves_no_file_behind(tmp_path):
    def make():
        return Holding(FedAvgM(server_momentum=0.5, server_learning_rate=0.5))

    check_strategy(make, rounds=9)
    assert host_of(Holding(make())).declared.slots == ("momentum",)
    learners = {name: Adding() for name in "ab"}
    run_locally(make(), learners, num_rounds=4, store=MemoryStore(FileContents(tmp_path)))
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["model-000004", "model-000004+momentum"]


class Adding(NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(2)]

    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        return 0.0, 1, {}


def test_the_abstract_strategy_asks_for_all_six_methods():
    with pytest.raises(TypeError, match="abstract"):
        Strategy()


def test_nothing_is_logged_by_a_strategy(caplog):
    with caplog.at_level(logging.DEBUG):
        FedAvg().aggregate_fit(1, [fit_res([1.0])], [])
    assert caplog.records == []
