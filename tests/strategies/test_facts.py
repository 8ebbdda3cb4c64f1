"""What a strategy remembers in plain numbers: kept with its answers, there again after a resume, never half changed."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.events import ExchangeClosed
from umbel.rounds.messages import Evaluated, Stepped, Summarized
from umbel.rounds.state import State
from umbel.runtime.stores.codec import decode_input, decode_state, encode
from umbel.server.strategy import FedAvg, Krum, Strategy
from umbel.simulation import start_simulation
from umbel.testing import run_locally


class Dies(Exception):
    pass


class Learner(fl.client.NumPyClient):
    def __init__(self, context):
        self.place = float(context.node_id)

    def fit(self, parameters, config):
        return [parameters[0] + config["rate"] * (self.place - parameters[0])], 1, {}

    def evaluate(self, parameters, config):
        return float(np.abs(parameters[0] - self.place).sum()) + config.get("worse", 0.0), 1, {}


class Careful(FedAvg):
    """Halves the rate while the loss does not become better, and counts its steps."""

    facts = {"rate": 2.5, "best": math.inf, "steps": 0, "warm": False}  # noqa: RUF012  # each that is made has its own

    def configure_fit(self, *asked):
        chosen = super().configure_fit(*asked)
        for _, ins in chosen:
            ins.config["rate"] = self.facts["rate"]
        return chosen

    def aggregate_fit(self, server_round, results, failures):
        made, metrics = super().aggregate_fit(server_round, results, failures)
        self.facts["steps"] += 1
        return made, {**metrics, "steps": self.facts["steps"], "rate": self.facts["rate"]}

    def evaluate(self, server_round, parameters):
        if self.dies_in == server_round:
            raise Dies
        self.facts["warm"] = server_round > 1
        return float(parameters.arrays()[0].sum()), {"warm": self.facts["warm"]}

    def aggregate_evaluate(self, *answered):
        loss, metrics = super().aggregate_evaluate(*answered)
        if loss >= self.facts["best"]:
            self.facts["rate"] /= 2
        self.facts["best"] = min(self.facts["best"], loss)
        return loss, metrics

    dies_in = None


def start(**more):
    return {"initial_parameters": ndarrays_to_parameters([np.full(3, 9.0)]), **more}


def simulate(strategy, store=None, rounds=6):
    history = start_simulation(
        client_fn=Learner,
        num_clients=3,
        config=fl.server.ServerConfig(num_rounds=rounds),
        strategy=strategy,
        backend="inline",
        store=store,
        progress=False,
    )
    return json.loads(history.to_json())


def test_facts_change_with_the_answers_of_the_methods_that_change_them():
    strategy = Careful(**start())
    history = simulate(strategy)
    assert history["metrics_distributed_fit"]["steps"] == [[number, number] for number in range(1, 7)]
    rates = [rate for _, rate in history["metrics_distributed_fit"]["rate"]]
    assert rates[0] == 2.5
    assert rates[-1] == 1.25
    assert [warm for _, warm in history["metrics_centralized"]["warm"]] == [False, False, True, True, True, True, True]
    assert strategy.facts["steps"] == 6
    assert strategy.facts["best"] == min(loss for _, loss in history["losses_distributed"])


@pytest.mark.parametrize("dies_in", [0, 1, 3, 6])
def test_a_run_that_is_gone_on_with_has_its_facts(dies_in, tmp_path):
    whole = simulate(Careful(**start()))
    Careful.dies_in = dies_in
    try:
        with contextlib.suppress(Dies):
            simulate(Careful(**start()), tmp_path)
    finally:
        Careful.dies_in = None
    assert simulate(Careful(**start()), tmp_path) == whole


def test_they_go_back_with_the_model(tmp_path, caplog):
    whole = simulate(Careful(**start()))
    Careful.dies_in = 4
    try:
        with contextlib.suppress(Dies):
            simulate(Careful(**start()), tmp_path)
    finally:
        Careful.dies_in = None
    newest = max(tmp_path.glob("*/model-*.safetensors"))
    damaged = bytearray(newest.read_bytes())
    damaged[-1] ^= 1
    newest.write_bytes(damaged)
    again = simulate(Careful(**start()), tmp_path)
    assert "Going back to version" in caplog.text
    for name in ("losses_distributed", "losses_centralized", "metrics_distributed_fit"):
        assert again[name] == whole[name]


def test_a_strategy_that_is_run_twice_begins_anew_and_shares_them_with_nobody():
    strategy = Careful(**start())
    assert simulate(strategy) == simulate(strategy)
    other = Careful(**start())
    other.facts["rate"] = 0.25
    assert (Careful.facts["rate"], Careful(**start()).facts["rate"]) == (2.5, 2.5)
    assert simulate(other, rounds=1)["metrics_distributed_fit"]["rate"] == [[1, 0.25]]


class Holding(Strategy):
    """Leaves everything to another strategy, and has facts of its own."""

    facts = {"steps": 100}  # noqa: RUF012

    def __init__(self, held):
        self.held = held

    def initialize_parameters(self, client_manager):
        return self.held.initialize_parameters(client_manager)

    def configure_fit(self, *asked):
        return self.held.configure_fit(*asked)

    def aggregate_fit(self, *answered):
        made, metrics = self.held.aggregate_fit(*answered)
        self.facts["steps"] += 1
        return made, {**metrics, "outside": self.facts["steps"]}

    def configure_evaluate(self, *asked):
        return self.held.configure_evaluate(*asked)

    def aggregate_evaluate(self, *answered):
        return self.held.aggregate_evaluate(*answered)

    def evaluate(self, *asked):
        return self.held.evaluate(*asked)


def test_a_strategy_and_one_that_it_holds_have_facts_of_their_own():
    metrics = simulate(Holding(Careful(**start())), rounds=3)["metrics_distributed_fit"]
    assert [value for _, value in metrics["outside"]] == [101, 102, 103]
    assert [value for _, value in metrics["steps"]] == [1, 2, 3]
    assert metrics["rate"] == simulate(Careful(**start()), rounds=3)["metrics_distributed_fit"]["rate"]


def changing(method, change, base=FedAvg):
    def changes(self, *asked):
        change(self.facts)
        return getattr(base, method)(self, *asked)

    return type("Mine", (base,), {"facts": {"best": 1.0, "steps": 0}, method: changes})


def clients():
    class Same(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            return 0.0, 1, {}

    return {"a": Same(), "b": Same()}


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        ("configure_fit", lambda facts: facts.update(best=2), r"facts cannot be changed here: configure_fit"),
        ("configure_evaluate", lambda facts: facts.pop("best"), "Change them in aggregate_fit"),
        ("aggregate_fit", lambda facts: facts.update(bets=2), r"Mine.facts with 'bets'; declared are 'best', 'steps'"),
        ("aggregate_fit", lambda facts: facts.pop("best"), r"aggregate_fit\(\) left Mine.facts without 'best'"),
        ("evaluate", lambda facts: facts.update(best=math.nan), "'best' is nan; facts are plain numbers"),
        ("aggregate_fit", lambda facts: facts.update(best=np.ones(2)), "facts are plain numbers.*slots of an optimizer"),
        ("aggregate_fit", lambda facts: facts.update(steps=2**64), "of 64 bits"),
    ],
)
def test_what_cannot_be_remembered_is_said_where_it_is_made(method, change, said):
    with pytest.raises(StrategyError, match=said):
        run_locally(changing(method, change)(**start()), clients())


def test_facts_that_are_no_numbers_are_refused_before_the_first_round():
    with pytest.raises(StrategyError, match=r"Mine.facts: 'best' is None; facts are plain numbers"):
        run_locally(type("Mine", (FedAvg,), {"facts": {"best": None}})(**start()), clients())


def test_a_numpy_number_is_the_number():
    strategy = changing("aggregate_fit", lambda facts: facts.update(best=np.float32(0.5), steps=np.int64(3)))(**start())
    run_locally(strategy, clients())
    assert strategy.facts == {"best": 0.5, "steps": 3}


def test_a_method_that_raises_changes_none():
    def fails(facts):
        facts["steps"] += 1
        raise RuntimeError

    seen = []
    looks = lambda _: seen.append(strategy.facts["steps"]) or {}  # noqa: E731
    strategy = changing("aggregate_evaluate", fails)(**start(on_fit_config_fn=looks))
    run_locally(strategy, clients(), num_rounds=3)
    assert seen == [0, 0, 0]


def test_a_round_with_too_few_updates_changes_none():
    class Fails(Learner):
        def fit(self, parameters, config):
            raise RuntimeError

    strategy = changing("aggregate_fit", lambda facts: facts.update(steps=facts["steps"] + 1), Krum)
    strategy = strategy(num_malicious_clients=1, on_fit_config_fn=lambda number: {"rate": 0.5}, **start())
    members = {str(i): (Fails if i > 2 else Learner)(fl.common.Context(str(i))) for i in range(5)}
    run = run_locally(strategy, members, num_rounds=2)
    assert "the model stays as it is" in next(event.note for event in run.events if isinstance(event, ExchangeClosed))
    assert strategy.facts["steps"] == 0


def test_whoever_means_something_else_by_facts_is_left_alone():
    class Chatty(FedAvg):
        def __init__(self, **classic):
            super().__init__(**classic)
            self.facts = ["a list"]

    strategy = Chatty(**start())
    run_locally(strategy, clients())
    assert strategy.facts == ["a list"]


def test_a_journal_and_a_state_have_them_as_they_were():
    facts = {"best": math.inf, "steps": 3, "warm": True, "rate": 0.5}
    for answer in (Stepped(1, facts=facts), Evaluated(0.5, facts=facts), Summarized(0.5, facts=facts)):
        assert repr(decode_input(type(answer).__name__, encode(answer))) == repr(answer)
    state = State(num_rounds=3, version=2, facts=facts)
    state.before = state.here
    assert repr(decode_state(encode(state))) == repr(state)
    assert b"facts" not in encode(Stepped(1))  # the digests of runs without any stay what they were
