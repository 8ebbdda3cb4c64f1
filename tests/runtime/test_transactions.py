"""How many transactions a run takes, and that nobody hears of what is not in one."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from umbel.common import GetPropertiesIns, ndarrays_to_parameters
from umbel.door import Door
from umbel.errors import ClientFailed
from umbel.params import gather, schema_of
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import Failure, FailureKind, Joined, Kind, Replied, Reply, Started, Verdict
from umbel.runtime.contents import write_content
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.runtime.observers.narrator import Narrator
from umbel.runtime.owner import Owner
from umbel.runtime.run import Clock, run
from umbel.runtime.stores.base import Unit
from umbel.runtime.stores.memory import MemoryStore
from umbel.runtime.transports.base import Proxy
from umbel.server.strategy import FedAvg
from umbel.strategies.classic.adapter import host_of

ARRAYS = [np.ones(4, np.float32)]


class Journal(MemoryStore):
    """Keeps each transaction's inputs by their names."""

    unit = Unit.INPUT

    def __init__(self):
        super().__init__()
        self.transactions = []

    def write(self, entries, snapshot=None):
        self.transactions.append([entry.event for entry in entries])

    def has(self, task):
        return any(getattr(event, "task", None) == task for events in self.transactions for event in events)


class Prompt:
    """Clients that answer a task as soon as it is dispatched; notes what they hear, and whether it was in the journal."""

    def __init__(self, store):
        self.store = store
        self.inputs, self.heard, self.asked = deque(), [], []

    def receive(self, timeout):
        return self.inputs.popleft() if self.inputs else None

    def put(self, event):
        self.inputs.append(event)

    def dispatch(self, task, given, door):
        assert isinstance(door, Door)
        name = None
        if task.kind is Kind.FIT:
            name, schema = f"{task.id}-update", schema_of(ARRAYS)
            write_content(self.store.contents, name, schema, gather(schema, ARRAYS, 0, schema.nbytes))
        self.put(Replied(task.id, Reply(1, 0.5, {}, name)))

    def cancel(self, task):
        raise AssertionError(f"{task.id} was taken back")

    def settle(self, task, verdict, why):
        self.heard.append((task, verdict, self.store.has(task)))

    def before_asking(self, then):
        self.then = then

    def ask(self, client, kind, parameters, config, timeout):
        self.then()
        self.asked.append(len(self.heard))
        return Failure(FailureKind.LATE, "nobody answers here")

    def close(self, why, *, over):
        pass


def federated(strategy, store, transport, rounds=3, clients=("a", "b")):
    model = GlobalModel(store.contents, receives="sum", max_examples=10**7, max_bytes=None)
    for name in clients:
        transport.put(Joined(name))
    rules = Rules(run="run", min_available=len(clients), pace=strategy.pace)
    coordinator, history = Coordinator(rules, State(num_rounds=rounds)), History()
    run(
        coordinator=coordinator,
        owner=Owner(
            host_of(strategy), model, seed=0, proxy=lambda name: Proxy(name, transport), history=history
        ),
        model=model,
        store=store,
        transport=transport,
        history=history,
        clock=Clock(),
        first=[Started()],
        narrator=Narrator(coordinator, history, model),
    )


def averaging(kind=FedAvg):
    return kind(initial_parameters=ndarrays_to_parameters(ARRAYS), min_available_clients=2)


def test_a_phase_whose_answers_come_together_is_one_transaction():
    store = Journal()
    federated(averaging(), store, Prompt(store), rounds=10)
    phases = [events for events in store.transactions if any(isinstance(event, Replied) for event in events)]
    assert len(phases) <= 20 + 3, "two a round; the first of each kind is written before the owner's first answer to it"


def test_whoever_hears_that_an_answer_counts_can_find_it_in_the_journal():
    store = Journal()
    transport = Prompt(store)
    federated(averaging(), store, transport)
    assert len(transport.heard) == 12
    assert {(verdict, written) for _, verdict, written in transport.heard} == {(Verdict.ACCEPTED, True)}


def test_answers_are_in_the_journal_though_the_owner_s_code_raises_over_them():
    class Broken(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            if server_round == 3:
                raise RuntimeError("a mistake")
            return super().aggregate_fit(server_round, results, failures)

    store = Journal()
    transport = Prompt(store)
    with pytest.raises(RuntimeError, match="a mistake"):
        federated(averaging(Broken), store, transport)
    assert [store.has(f"run.3.fit.0.{index}") for index in range(2)] == [True, True]


@pytest.mark.parametrize("apart", [False, True], ids=["in the loop's thread", "in one of its own"])
def test_whoever_is_asked_something_has_heard_of_its_answers_before(apart):
    """A client that waits to hear of an answer takes no question."""

    class Asking(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            (_, proxy), *_ = sorted(client_manager.all().items())

            def ask():
                with pytest.raises(ClientFailed):
                    proxy.get_properties(GetPropertiesIns({}), timeout=1.0)

            if apart:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(ask).result()
            else:
                ask()
            return super().configure_fit(server_round, parameters, client_manager)

    store = Journal()
    transport = Prompt(store)
    federated(averaging(Asking), store, transport)
    assert transport.asked == [0, 4, 8]


def test_a_slow_owner_is_not_waited_for_by_those_whose_answers_count(monkeypatch):
    """They hear of it before he is asked, where he took long the last time."""
    heard_before = []

    class Slow(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            heard_before.append(len(transport.heard))
            return super().aggregate_fit(server_round, results, failures)

    monkeypatch.setattr("umbel.runtime.run.SHORT", 0.0)
    store = Journal()
    transport = Prompt(store)
    federated(averaging(Slow), store, transport)
    assert heard_before == [2, 6, 10]
