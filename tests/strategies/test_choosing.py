"""Who trains: selectors of one's own, and power of choice."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.events import CohortChosen, TaskAnswered
from umbel.population import Clients
from umbel.rounds.coordinator import Rules
from umbel.rounds.messages import Replied, Reported
from umbel.runtime.contents import FileContents
from umbel.runtime.resume import restore
from umbel.runtime.stores.database import Database
from umbel.runtime.stores.sql import SqlStore
from umbel.selectors import Selector, everyone, only, weighted
from umbel.server import ServerConfig
from umbel.server.strategy import FedAvg, Krum, PowerOfChoice
from umbel.simulation import start_simulation
from umbel.strategies.classic.adapter import host_of
from umbel.strategies.clients import NotEnoughClients, SimpleClientManager
from umbel.testing import run_locally
from umbel.training import NumPyClient


class Learner(NumPyClient):
    def __init__(self, name, fails=False):
        self.point, self.fails, self.evaluated = float(name), fails, 0

    def fit(self, parameters, config):
        return [a + 0.5 * (self.point - a) for a in parameters], 1, {}

    def evaluate(self, parameters, config):
        self.evaluated += 1
        if self.fails:
            raise RuntimeError("no data")
        return float(np.abs(parameters[0] - self.point).mean()), 1, {}


def clients(count, **options):
    return {str(i): Learner(i, **options) for i in range(count)}


def start():
    return {"initial_parameters": ndarrays_to_parameters([np.zeros(3)]), "fraction_evaluate": 0.0}


def names(run):
    """Who trained, round after round."""
    return [event.client for event in run.events if isinstance(event, TaskAnswered) and event.kind == "fit"]


def test_a_selector_of_one_s_own_decides_who_trains():
    last_two = Selector(lambda available: (2, 2), lambda clients, size, rng: list(clients)[-size:])
    run = run_locally(FedAvg(select=last_two, **start()), clients(5), num_rounds=2)
    assert names(run) == ["3", "4", "3", "4"]


def test_a_selector_goes_with_any_strategy():
    run = run_locally(Krum(select=everyone(), num_malicious_clients=1, **start()), clients(6))
    assert len(names(run)) == 6


def test_only_the_able_are_drawn():
    even = only(lambda name: int(name) % 2 == 0, everyone())
    assert names(run_locally(FedAvg(select=even, **start()), clients(5))) == ["0", "2", "4"]


def test_the_heavier_are_drawn_more_often():
    selector = weighted(lambda name: float(int(name) + 1), fraction=0, min_clients=1, min_available=1)
    drawn = Counter(selector.pick(Clients(4), 1, lambda seed=seed: np.random.RandomState(seed))[0] for seed in range(3000))
    assert [drawn[str(i)] / 3000 for i in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)


def test_weights_that_make_no_sense_are_refused():
    selector = weighted(lambda name: -1.0, fraction=0, min_clients=1, min_available=1)
    with pytest.raises(ValueError, match="0 or more"):
        selector.pick(["a"], 1, np.random.RandomState)


def test_clients_at_work_are_there_but_are_not_sampled():
    manager = SimpleClientManager()
    manager.clients, manager.busy = {"idle": Proxy("idle")}, 4
    assert manager.wait_for(5)
    assert [client.cid for client in manager.sample(2, min_num_clients=5)] == ["idle"]
    with pytest.raises(NotEnoughClients):
        manager.wait_for(6)


class Proxy:
    def __init__(self, cid):
        self.cid = cid


def test_those_train_on_whose_data_the_model_is_worst():
    strategy = PowerOfChoice(FedAvg(fraction_fit=0.1, min_fit_clients=2, **start()), candidates=6)
    members = clients(6)
    assert names(run_locally(strategy, members)) == ["4", "5"]
    assert [member.evaluated for member in members.values()] == [1] * 6


def test_a_candidate_that_fails_is_passed_over():
    strategy = PowerOfChoice(FedAvg(fraction_fit=0.1, min_fit_clients=2, **start()), candidates=6)
    members = {**clients(6), "5": Learner(5, fails=True)}
    assert names(run_locally(strategy, members)) == ["3", "4"]


def test_fewer_candidates_than_the_cohort_are_as_many_as_the_cohort():
    strategy = PowerOfChoice(FedAvg(min_fit_clients=3, fraction_fit=0.1, **start()), candidates=1)
    assert len(names(run_locally(strategy, clients(6)))) == 3
    with pytest.raises(ValueError, match="candidates=0"):
        PowerOfChoice(FedAvg(), candidates=0)


def test_all_candidates_are_asked_at_once_in_an_exchange_of_their_own():
    strategy = PowerOfChoice(FedAvg(fraction_fit=0.1, min_fit_clients=2, **start()), candidates=4)
    run = run_locally(strategy, {**clients(6), "1": Learner(1, fails=True)}, num_rounds=2)
    chosen = [(event.kind, len(event.clients)) for event in run.events if isinstance(event, CohortChosen)]
    assert chosen == [("candidates", 4), ("fit", 2)] * 2
    assert {(note.kind, note.client) for note in run.history.failures} <= {("candidates", "1")}
    assert (run.history.losses_distributed, run.history.metrics_distributed) == ([], {})


class Dies(SqlStore):
    """Ends its process, so to say, when so many replies are in the journal."""

    def __init__(self, *where, after):
        super().__init__(*where)
        self.after = after

    def write(self, entries, snapshot=None):
        super().write(entries, snapshot)
        self.after -= sum(isinstance(entry.event, (Replied, Reported)) for entry in entries)
        if self.after <= 0:
            raise SystemExit


def rounds_of(strategy, members, folder, after=10**9):
    """Three rounds, or as much of them as is done until so many replies have come, or what was left of them."""
    with contextlib.closing(Database(f"sqlite:///{folder / 'runs.sqlite'}")) as database:
        if not database.runs():
            database.add("run", {})
        store = Dies(database, "run", FileContents(folder / "run"), after=after)
        declared = host_of(strategy).declared
        rules = Rules(run="run", min_available=len(members), pace=strategy.pace, exchanges=declared.exchanges)
        coordinator = restore(store.load(), rules, 3).coordinator
        try:
            return run_locally(strategy, members, num_rounds=3, store=store, coordinator=coordinator)
        finally:
            store.close()


@pytest.mark.parametrize("after", range(1, 24, 3))
def test_a_candidate_that_has_told_its_loss_is_not_asked_again_by_a_server_that_resumes(tmp_path, after):
    strategy = PowerOfChoice(FedAvg(fraction_fit=0.1, min_fit_clients=2, **start()), candidates=6)
    whole, members = run_locally(strategy, clients(6), num_rounds=3), clients(6)
    with contextlib.suppress(SystemExit):
        rounds_of(strategy, members, tmp_path, after)
    again = rounds_of(strategy, members, tmp_path)
    assert again.arrays[0].tobytes() == whole.arrays[0].tobytes()
    assert [member.evaluated for member in members.values()] == [3] * 6


def test_a_strategy_that_holds_a_power_of_choice_and_does_not_pass_on_its_exchanges_is_told_so():
    class Holds(FedAvg):
        def configure_fit(self, *asked):
            return PowerOfChoice(FedAvg(**start()), candidates=3).configure_fit(*asked)

    with pytest.raises(StrategyError, match="passes on exchanges and configure_exchange"):
        run_locally(Holds(**start()), clients(3))


def test_power_of_choice_makes_no_proxies_of_a_million_clients(monkeypatch):
    def all_of_them(manager):
        raise AssertionError("every one of them is named")

    monkeypatch.setattr(SimpleClientManager, "all", all_of_them)
    few = FedAvg(fraction_fit=2e-6, min_fit_clients=1, min_evaluate_clients=0, **start())
    asked = []

    class Asked(Learner):
        def evaluate(self, parameters, config):
            asked.append(self.point)
            return super().evaluate(parameters, config)

    start_simulation(
        client_fn=lambda context: Asked(context.node_id),
        num_clients=1_000_000,
        config=ServerConfig(num_rounds=2),
        strategy=PowerOfChoice(few, candidates=5),
        backend="inline",
        progress=False,
    )
    assert len(asked) == 10
