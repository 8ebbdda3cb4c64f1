"""Algorithms as values; and every strategy makes the same bits as its value, and asked through its classic methods."""

from __future__ import annotations

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.errors import StrategyError
from umbel.optimizers import adam
from umbel.selectors import uniform
from umbel.server import Algorithm, Pace, ServerConfig, SimpleClientManager
from umbel.server import strategy as strategies
from umbel.server.algorithm import Ask, Combined, current_round
from umbel.server.exchanges import FIT, Exchange, Kind
from umbel.server.strategy import FedAdam, FedAvg, FedAvgM, FedBuff, FedMedian
from umbel.simulation import start_simulation
from umbel.strategies.classic.adapter import ClassicHost, host_of
from umbel.testing import check_strategy, run_locally

START = {"weight": np.arange(6, dtype="float32").reshape(2, 3), "seen": np.array(4)}


class Learner(fl.client.NumPyClient):
    def __init__(self, number):
        self.number = number

    def get_parameters(self, config):
        return START

    def get_properties(self, config):
        return {"rank": self.number}

    def fit(self, parameters, config):
        step = np.float32(config.get("lr", 0.5)) * np.float32(self.number + 1)
        return [parameters[0] + step, parameters[1] + 1], self.number + 1, {"loss": 0.1 + self.number, "lr": float(step)}

    def evaluate(self, parameters, config):
        return float(np.abs(parameters[0] - self.number).mean()), self.number + 1, {"n": self.number}


def learners(count=5):
    return {str(number): Learner(number) for number in range(count)}


def trace(run):
    history = run.history
    bits = [(array.dtype.str, array.tobytes()) for array in run.arrays]
    return bits, history.losses_distributed, history.metrics_distributed, history.metrics_distributed_fit


MADE = {
    "FedBuff": {"buffer_size": 2, "concurrency": 3},
    "FedAsync": {"concurrency": 2},
    "FedProx": {"proximal_mu": 0.1},
    "FLTrust": {"root_fit": lambda number, arrays: [arrays[0] + np.float32(1), arrays[1]]},
    "Bucketing": {"strategy": FedMedian()},
    "NearestNeighbourMixing": {"strategy": FedMedian()},
    "PowerOfChoice": {"strategy": FedAvg(fraction_fit=0.5), "candidates": 4},
}
NUMERIC = [name for name in strategies.__all__ if getattr(strategies, name).receives in ("sum", "updates")]
SIX = ["initialize_parameters", "configure_fit", "aggregate_fit", "configure_evaluate", "aggregate_evaluate", "evaluate"]


def passes_on(name):
    def method(self, *arguments):
        return getattr(super(type(self), self), name)(*arguments)

    return method


@pytest.mark.parametrize("name", NUMERIC)
def test_the_classic_methods_make_what_the_value_makes(name):
    keywords = dict(MADE.get(name, {}))
    if "strategy" not in keywords:
        keywords = {"initial_parameters": START, "fraction_fit": 0.7, **keywords}
    made = getattr(strategies, name)(**keywords)
    own = getattr(strategies, name)(**keywords)
    own.__class__ = type("Own", (type(own),), {each: passes_on(each) for each in SIX})
    assert not isinstance(host_of(made), ClassicHost)
    assert isinstance(host_of(own), ClassicHost)
    assert trace(run_locally(made, learners(), num_rounds=3)) == trace(run_locally(own, learners(), num_rounds=3))


def test_an_algorithm_as_it_stands_is_federated_averaging():
    value, strategy = (run_locally(made, learners(), num_rounds=3) for made in (Algorithm(), FedAvg()))
    assert trace(value) == trace(strategy)


def momentous(**fields):
    return Algorithm(
        name="Momentous",
        initial_parameters=START,
        select=uniform(fraction=0.5, min_clients=2, min_available=2),
        optimizer=adam(0.1, 0.9, 0.99, 1e-3),
        configure=lambda here: {"lr": here.facts["rate"]},
        facts={"rate": 0.5, "best": math.inf},
        advance=halve_when_it_stays,
        **fields,
    )


def halve_when_it_stays(here, loss, metrics):
    if loss is None:
        return {}
    rate, best = here.facts["rate"], here.facts["best"]
    return {"rate": rate if loss < best else rate / 2, "best": min(loss, best)}


def test_a_value_runs_wherever_a_strategy_does_and_makes_the_same_bits():
    local = run_locally(momentous(), learners(), num_rounds=4)
    simulated = start_simulation(
        client_fn=lambda context: Learner(int(context.node_id)),
        num_clients=5,
        config=ServerConfig(num_rounds=4),
        strategy=momentous(),
        backend="inline",
        progress=False,
    )
    assert simulated.losses_distributed == local.history.losses_distributed
    assert simulated.metrics_distributed_fit == local.history.metrics_distributed_fit


def test_what_a_value_remembers_is_there_again_where_its_run_goes_on():
    check_strategy(lambda: replace(momentous(), initial_parameters=[np.zeros(5, "float32")], configure=lambda here: {}))
    best = run_locally(momentous(), learners(), num_rounds=6).coordinator.state.facts["best"]
    assert 0 < best < math.inf


def test_a_fact_that_is_not_declared_is_named():
    wrong = replace(momentous(), advance=lambda here, loss, metrics: {"momentum": 1.0})
    with pytest.raises(StrategyError, match=r"advance\(\) returned .*momentum.*; it returns those facts .*'rate', 'best'"):
        run_locally(wrong, learners())


@pytest.mark.parametrize(
    ("question", "answer", "rule"),
    [
        ("configure", None, r"a dict, \{\} where there is nothing to tell"),
        ("weigh", [1.0], "5 numbers, one a result, 0 or more"),
        ("weigh", [1.0, -1.0, 1.0, 1.0, 1.0], "5 numbers, one a result, 0 or more"),
        ("shares", [1.0, math.nan, 1.0, 1.0, 1.0], "5 numbers, one a result"),
    ],
)
def test_what_no_round_can_use_is_named_with_the_question(question, answer, rule):
    wrong = Algorithm(initial_parameters=START, **{question: lambda *_: answer})
    with pytest.raises(StrategyError, match=rf"{question}\(\) returned .*; it returns {rule}"):
        run_locally(wrong, learners())


def test_a_round_of_a_value_may_have_several_exchanges():
    def choose(asking):
        if asking.exchange == "ranks":
            return [Ask(name, {}) for name in asking.present]
        if asking.exchange == "fit":
            best = sorted(asking.round.answers["ranks"], key=lambda answer: -answer.metrics["rank"])[:2]
            return [Ask(answer.client, {"lr": 1.0}) for answer in best]
        return None

    ranked = Algorithm(exchanges=(Exchange("ranks", Kind.PROPERTIES), FIT), choose=choose, initial_parameters=START)
    run = run_locally(ranked, learners(), num_rounds=1)
    assert run.history.metrics_distributed_fit["lr"] == [(1, (4 * 4 + 5 * 5) / 9)]


def test_an_exchange_that_choose_says_nothing_of_is_named():
    silent = Algorithm(name="Silent", exchanges=(Exchange("ranks", Kind.PROPERTIES), FIT))
    with pytest.raises(StrategyError, match="Silent has the exchange 'ranks', and choose= says nothing of it"):
        run_locally(silent, learners())


def test_a_value_may_combine_updates_of_any_form():
    def longest(here, results):
        best = max(results, key=lambda result: len(result.arrays()[0]))
        return Combined(ndarrays_to_parameters(best.arrays()), [best], {"cohort": here.cohort})

    class Grows(Learner):
        def fit(self, parameters, config):
            return [np.zeros(self.number)], 1, {}

    run = run_locally(Algorithm(combine=longest, receives="anything", evaluators=None), {str(n): Grows(n) for n in range(4)})
    assert run.arrays[0].shape == (3,)
    assert run.history.metrics_distributed_fit["cohort"] == [(1, 4)]


def test_numbers_of_a_value_are_checked_when_it_is_made():
    with pytest.raises(TypeError, match="no keyword 'agregator'; did you mean 'aggregator'"):
        Algorithm(agregator=None)
    with pytest.raises(TypeError, match="optimizer='adam'; it is an Optimizer"):
        Algorithm(optimizer="adam")
    with pytest.raises(ValueError, match="updates of any form, and transforms need the model's"):
        Algorithm(transform=fl.transforms.clip(1.0), receives="anything")


def test_a_client_manager_of_somebody_s_own_is_asked_by_strategies_and_refused_beside_a_value():
    class Last(SimpleClientManager):
        def sample(self, num_clients, min_num_clients=None, criterion=None):
            return [*self.all().values()][-2:]

    run = run_locally(FedAvg(initial_parameters=START), learners(), client_manager=Last())
    assert run.history.metrics_distributed_fit["loss"] == [(1, pytest.approx((4 * 3.1 + 5 * 4.1) / 9))]
    with pytest.raises(StrategyError, match=r"client_manager= is a Last.*an Algorithm says who takes part by select="):
        run_locally(Algorithm(), learners(), client_manager=Last())


def test_a_strategy_that_is_changed_in_the_middle_of_a_run_goes_on_as_it_is_now():
    strategy = FedAvg(initial_parameters=START, min_fit_clients=2, fraction_fit=0.0)

    def configure(number):
        strategy.min_fit_clients = 4
        return {}

    strategy.on_fit_config_fn = configure
    run = run_locally(strategy, learners(), num_rounds=2)
    losses = [loss for _, loss in run.history.metrics_distributed_fit["loss"]]
    assert losses[1] != losses[0]  # of four clients, and of two


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_of_a_strategy_fills_a_value_of_its_own(copied):
    strategy = FedAvg(initial_parameters=START, min_fit_clients=3)
    assert strategy.value is strategy.value
    other = copied(strategy)
    other.min_fit_clients = 5
    assert (strategy.value.wanted(2)[0], other.value.wanted(2)[0]) == (3, 5)


# ---- what a method of somebody's own may do with the round that is lent to it


def by(aggregate_fit, base=FedAdam):
    def asked(self, server_round, results, failures):
        return aggregate_fit(super(Own, self), server_round, results, failures)

    Own = type("Own", (base,), {"aggregate_fit": asked})
    return Own(initial_parameters=START)


def plain(base=FedAdam):
    return trace(run_locally(base(initial_parameters=START), learners(), num_rounds=3))


def in_a_thread(parent, server_round, results, failures):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(parent.aggregate_fit, server_round, results, failures).result()


def replaced(parent, server_round, results, failures):
    for _, res in results:
        res.parameters = ndarrays_to_parameters(parameters_to_ndarrays(res.parameters))
    return parent.aggregate_fit(server_round, results, failures)


def rewritten(parent, server_round, results, failures):
    results = [
        (client, FitRes(Status(Code.OK), ndarrays_to_parameters(res.parameters.arrays()), res.num_examples, res.metrics))
        for client, res in results
    ]
    return parent.aggregate_fit(server_round, results, failures)


def beside_another(parent, server_round, results, failures):
    others = [(client, FitRes(Status(Code.OK), ndarrays_to_parameters([np.ones(7)]), 1, {})) for client, _ in results]
    made, _ = FedAvgM(server_momentum=0.9).aggregate_fit(server_round, others, [])
    assert parameters_to_ndarrays(made)[0].shape == (7,)
    return parent.aggregate_fit(server_round, results, failures)


@pytest.mark.parametrize("aggregate_fit", [in_a_thread, replaced, rewritten, beside_another])
def test_a_round_is_found_however_a_method_asks_for_it(aggregate_fit):
    assert trace(run_locally(by(aggregate_fit), learners(), num_rounds=3)) == plain()


def test_a_strategy_made_inside_a_method_steps_from_the_version_of_the_run():
    class Makes(FedAvg):
        receives = "sum"

        def aggregate_fit(self, server_round, results, failures):
            return FedAvgM(server_learning_rate=0.5).aggregate_fit(server_round, results, failures)

    made = run_locally(Makes(initial_parameters=START), learners(), num_rounds=3)
    wanted = run_locally(FedAvgM(initial_parameters=START, server_learning_rate=0.5), learners(), num_rounds=3)
    assert trace(made) == trace(wanted)


def test_the_round_is_lent_for_the_time_of_a_question():
    seen = []

    class Looks(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            here = current_round()
            noise = here.secret().stream("noise", here.number, "model").read(0, 8)
            seen.append((here.number, here.cohort, here.arrays()[0].shape, len(noise)))
            return super().aggregate_fit(server_round, results, failures)

    run_locally(Looks(initial_parameters=START), learners(), num_rounds=2)
    assert seen == [(1, 5, (2, 3), 8), (2, 5, (2, 3), 8)]
    assert current_round() is None


def test_results_are_plain_dataclasses():
    res = FitRes(Status(Code.OK), ndarrays_to_parameters([np.zeros(1)]), 1, {})
    assert [*vars(res)] == ["status", "parameters", "num_examples", "metrics"]


def test_asynchronous_rounds_of_a_value():
    pace = Pace(goal=2, carry_over=True)
    value = Algorithm(
        initial_parameters=START,
        pace=pace,
        concurrency=3,
        min_available=2,
        weigh=lambda here, results: [1.0] * len(results),
        shares=lambda here, results: [(1 + result.staleness) ** -0.5 for result in results],
    )
    buffered = FedBuff(initial_parameters=START, buffer_size=2, concurrency=3)
    assert trace(run_locally(value, learners(), num_rounds=4)) == trace(run_locally(buffered, learners(), num_rounds=4))
