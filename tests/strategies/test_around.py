"""Strategies made from another: they are that one in everything but their own answer."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from umbel.common import FitIns, ndarrays_to_parameters
from umbel.selectors import everyone, only
from umbel.server.strategy import (
    Bucketing,
    FaultTolerantFedAvg,
    FedAvg,
    FedAvgM,
    FedBuff,
    FedMedian,
    FedProx,
    FedXgbBagging,
    Krum,
    NearestNeighbourMixing,
    PowerOfChoice,
)
from umbel.strategies.classic.adapter import host_of
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Learner(NumPyClient):
    def __init__(self, name):
        self.name, self.configs = name, []

    def fit(self, parameters, config):
        self.configs.append(config)
        if config.get("fails") and self.name > 0:
            raise RuntimeError("no")
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        return float(self.name), 1, {}


def clients(count=4):
    return {str(i): Learner(i) for i in range(count)}


def start(**keywords):
    return {"initial_parameters": ndarrays_to_parameters([np.zeros(2)]), "fraction_evaluate": 0.0, **keywords}


class Telling(FedMedian):
    """Writes down which of its methods are asked."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.asked = []

    def initialize_parameters(self, client_manager):
        self.asked.append("initialize_parameters")
        return super().initialize_parameters(client_manager)

    def configure_fit(self, server_round, parameters, client_manager):
        self.asked.append("configure_fit")
        chosen = super().configure_fit(server_round, parameters, client_manager)
        return [(client, FitIns(ins.parameters, {**ins.config, "lr": 0.5})) for client, ins in chosen]

    def aggregate_fit(self, server_round, results, failures):
        self.asked.append("aggregate_fit")
        return super().aggregate_fit(server_round, results, failures)

    def configure_evaluate(self, server_round, parameters, client_manager):
        self.asked.append("configure_evaluate")
        return super().configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(self, server_round, results, failures):
        self.asked.append("aggregate_evaluate")
        return super().aggregate_evaluate(server_round, results, failures)

    def evaluate(self, server_round, parameters):
        self.asked.append("evaluate")
        return super().evaluate(server_round, parameters)


@pytest.mark.parametrize(
    "around",
    [
        lambda strategy: Bucketing(strategy, bucket_size=1),
        lambda strategy: NearestNeighbourMixing(strategy, num_malicious_clients=1),
        lambda strategy: PowerOfChoice(strategy, candidates=4),
        lambda strategy: PowerOfChoice(Bucketing(NearestNeighbourMixing(strategy)), candidates=4),
    ],
)
def test_all_six_questions_are_the_other_strategy_s(around):
    strategy, members = around(Telling(**start(fraction_evaluate=1.0))), clients()
    run_locally(strategy, members)
    asked = ["configure_fit", "aggregate_fit", "evaluate", "configure_evaluate", "aggregate_evaluate"]
    assert strategy.asked == ["initialize_parameters", "evaluate", *asked]
    assert [member.configs for member in members.values()] == [[{"lr": 0.5}]] * 4


def test_the_cohort_of_another_strategy_gets_that_one_s_config():
    members = clients()
    run_locally(PowerOfChoice(FedProx(proximal_mu=0.5, **start()), candidates=4), members)
    assert [member.configs for member in members.values()] == [[{"proximal_mu": 0.5}]] * 4


def test_a_completion_rate_holds_for_a_chosen_cohort():
    def fails(number):
        return {"fails": True}

    for strategy in (FaultTolerantFedAvg, lambda **k: PowerOfChoice(FaultTolerantFedAvg(**k), candidates=4)):
        run = run_locally(strategy(min_completion_rate_fit=0.9, on_fit_config_fn=fails, **start()), clients())
        assert run.arrays[0].tolist() == [0.0, 0.0]


def test_candidates_are_drawn_as_the_strategy_draws():
    able = only(lambda name: name in "01", everyone())
    members = clients()
    run_locally(PowerOfChoice(FedAvg(select=able, **start()), candidates=4), members, num_rounds=2)
    assert [len(member.configs) for member in members.values()] == [2, 2, 0, 0]


def test_an_asynchronous_strategy_chooses_as_many_as_it_wants():
    members = clients()
    buffered = FedBuff(buffer_size=1, concurrency=1, **start())
    run_locally(PowerOfChoice(buffered, candidates=4), members, num_rounds=2)
    assert [len(member.configs) for member in members.values()] == [0, 0, 0, 2]


def test_an_asynchronous_strategy_draws_by_its_selector():
    members = clients()
    last = only(lambda name: name == "3", everyone())
    run_locally(FedBuff(buffer_size=1, concurrency=1, select=last, **start()), members, num_rounds=3)
    assert [len(member.configs) for member in members.values()] == [0, 0, 0, 3]


def test_what_the_other_strategy_is_decides_how_its_updates_are_taken():
    around = PowerOfChoice(FedXgbBagging(), candidates=3)
    assert host_of(around).declared.receives == "anything"
    assert host_of(PowerOfChoice(FedAvgM(server_momentum=0.5), candidates=3)).declared.slots == ("momentum",)
    plain = PowerOfChoice(FedAvg(), candidates=3)
    assert host_of(plain).declared.adds_up(plain.pace) is not None  # workers may add up
    assert host_of(around).declared.adds_up(around.pace) is None


def test_several_may_be_around_each_other_but_each_once():
    strategy = Bucketing(NearestNeighbourMixing(Krum(num_malicious_clients=1), num_malicious_clients=1), bucket_size=2)
    assert strategy.algorithm().aggregator.name == "Krum with f=1 over nearest-neighbour mixing with f=1 over buckets of 2"
    assert (strategy.bucket_size, strategy.num_left_out) == (2, 1)
    assert isinstance(strategy, Krum)
    assert copy.deepcopy(strategy).algorithm().aggregator.name == strategy.algorithm().aggregator.name
    with pytest.raises(TypeError, match="Bucketing is a Bucketing already"):
        Bucketing(strategy)
    with pytest.raises(TypeError, match=r"strategy=3; it is a strategy with FedAvg's parts: write strategy=FedAvg\(\)"):
        PowerOfChoice(3, candidates=2)
