"""Updates have parts beside the model: what is sent, what steps which slot, and what is said where that is not so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from umbel.aggregators import Aggregator, mean, median
from umbel.client import NumPyClient
from umbel.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.door import Door
from umbel.errors import Rejected, StrategyError
from umbel.fold import Part
from umbel.optimizers import Optimizer, adam, momentum
from umbel.pace import Pace
from umbel.params import schema_of
from umbel.rounds.messages import Kind, Reply
from umbel.selectors import uniform
from umbel.server.algorithm import Algorithm
from umbel.server.strategy import FedAvg
from umbel.strategies.algorithm import CLASSIC_PACE
from umbel.testing import run_locally
from umbel.update import Layout

CLIENTS, RATE, STEPS = 4, 0.1, 5
CURVES = [np.linspace(0.3, 2, 5) * (client + 1) / 3 for client in range(CLIENTS)]
POINTS = [np.linspace(-1, 1, 5) * (client - 1) for client in range(CLIENTS)]


def control():
    """c ← c + Σ Δcᵢ / N."""
    total = Aggregator(
        init=lambda dtype: 0.0,
        add=lambda acc, block, weight: acc + block.astype(np.float64),
        merge=lambda acc, other: acc + other,
        finish=lambda acc, dtype: (acc / CLIENTS).astype(dtype),
    )
    return Part(total, Optimizer(lambda number, old, change, slots: (old() + change, ())))


class Scaffold(NumPyClient):
    """Karimireddy et al. 2020, Algorithm 1, option II."""

    def __init__(self, number):
        self.number, self.mine = number, [np.zeros(5)]

    def fit(self, parameters, config):
        c = self.context.parts["control"]
        y = [array.copy() for array in parameters]
        for _ in range(STEPS):
            gradient = CURVES[self.number] * (y[0] - POINTS[self.number])
            y[0] -= RATE * (gradient - self.mine[0] + c[0])
        changes = [(parameters[0] - y[0]) / (STEPS * RATE) - c[0]]
        self.context.send("control", changes)
        self.mine = [own + change for own, change in zip(self.mine, changes, strict=True)]
        return y, 1, {}


def strategy(fraction=0.5, pace=CLASSIC_PACE, **parts):
    return Algorithm(
        initial_parameters=ndarrays_to_parameters([np.zeros(5)]),
        select=uniform(fraction=fraction, min_clients=2, min_available=2),
        evaluators=None,
        pace=pace,
        parts=parts or {"control": control()},
    )


def trained(clients, made, rounds=1):
    return run_locally(made, {str(i): client for i, client in enumerate(clients)}, num_rounds=rounds)


def test_scaffold_is_what_a_plain_loop_makes_of_it():
    """Which clients take part is the run's to draw; all else is the paper's."""
    run = trained([Scaffold(i) for i in range(CLIENTS)], strategy(), rounds=8)
    x, c, mine = np.zeros(5), np.zeros(5), np.zeros((CLIENTS, 5))
    for event in (event for event in run.events if type(event).__name__ == "CohortChosen"):
        ys, changes = [], []
        for i in map(int, event.clients):
            y = x.copy()
            for _ in range(STEPS):
                y -= RATE * (CURVES[i] * (y - POINTS[i]) - mine[i] + c)
            changes.append((x - y) / (STEPS * RATE) - c)
            ys.append(y)
            mine[i] += changes[-1]
        x, c = np.mean(ys, axis=0), c + np.sum(changes, axis=0) / CLIENTS
    np.testing.assert_allclose(run.arrays[0], x, rtol=1e-12)


class Sends(NumPyClient):
    """Sends what it is told to, beside the model that it was given."""

    def __init__(self, part="control", arrays=None, *, say=True):
        self.part, self.arrays, self.say, self.got = part, arrays, say, []

    def fit(self, parameters, config):
        self.got.append({part: [array.copy() for array in arrays] for part, arrays in self.context.parts.items()})
        if self.say:
            self.context.send(self.part, [np.ones(5)] if self.arrays is None else self.arrays)
        return parameters, 1, {}


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Sends(say=False), "fit() sent no 'control', which this strategy needs"),
        (Sends("other"), "was given the part 'other'; this task has 'control' beside the model"),
        (Sends(arrays=[np.ones(4)]), "with 1 arrays ('0' (4,)); context.parts['control'] has 1 ('0' (5,))"),
        (Sends(arrays=[np.ones(5), np.ones(5)]), "2 arrays ("),
        (Sends(arrays={"w": np.ones(5)}), "('w' (5,))"),
        (Sends(arrays=["words"]), "cannot travel"),
        (Sends(arrays=[np.full(5, np.nan)]), "'control/0' contains nan"),
    ],
)
def test_what_is_not_like_the_slot_is_refused_in_words(client, words):
    run = trained([client, client], strategy())
    assert len(run.history.failures) == 2
    assert words in run.history.failures[0].text
    assert run.arrays[0].tolist() == [0.0] * 5


def test_parts_are_not_sent_where_no_strategy_asks_for_them():
    run = trained([Sends(), Sends()], FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(5)])))
    assert "was given the part 'control'; this task has none beside the model" in run.history.failures[0].text


def test_a_slot_begins_with_what_it_is_given_and_steps_with_an_optimizer_that_remembers():
    client = Sends("control", {"c": np.array([3.0, 5.0], "float64")})
    part = Part(mean(), momentum(0.5, beta=0.5), first={"c": np.array([1.0, 1.0], "float32")})
    trained([client, client], strategy(control=part), rounds=3)
    seen = [got["control"][0].tolist() for got in client.got[::2]]
    # m ← m/2 + (a − c), c ← c + m/2 from c = 1, with a = 3 and 5
    assert seen == [[1.0, 1.0], [2.0, 3.0], [3.0, 5.0]]
    assert client.got[0]["control"][0].dtype == np.float32


def test_a_rule_and_several_parts():
    class Two(Sends):
        def fit(self, parameters, config):
            self.context.send("far", [np.full(2, float(self.arrays))])
            self.context.send("near", [np.full(5, float(self.arrays))])
            self.got.append(self.context.parts["far"][0].tolist())
            return parameters, 1, {}

    clients = [Two(arrays=size) for size in (1, 2, 60)]
    made = strategy(1.0, far=Part(median(), first=[np.zeros(2)]), near=Part(mean(), adam()))
    trained(clients, made, rounds=2)
    assert clients[0].got == [[0.0, 0.0], [2.0, 2.0]]


def test_a_slot_that_would_not_be_finite_makes_the_round_void():
    part = Part(optimizer=Optimizer(lambda number, old, made, slots: (made * np.inf, ())))
    run = trained([Sends(), Sends()], strategy(control=part))
    assert run.coordinator.state.void_rounds == 1


def test_whoever_knows_no_parts_is_refused_in_words():
    one = schema_of([np.zeros(5)])
    door = Door(Kind.FIT, one, 100, 100, beside={"control": one}, wire=Layout.of(one, {"control": one}))
    with pytest.raises(Rejected, match=r"asks for 2 arrays \('model/0', 'control/0'\).*not know of them: update its umbel"):
        door.admit(Reply(1, content="update"), one)


def test_outside_of_a_run_nobody_keeps_a_slot():
    class WithParts(FedAvg):
        def algorithm(self):
            return replace(super().algorithm(), parts={"control": control()})

    start = ndarrays_to_parameters([np.zeros(5)])
    results = [(None, FitRes(Status(Code.OK, ""), start, 1, {}))]
    made, _ = WithParts(initial_parameters=start).aggregate_fit(1, results, [])
    with pytest.raises(StrategyError, match="the server's 'control', which these updates step, is not kept"):
        parameters_to_ndarrays(made)


def test_parts_that_cannot_be_are_refused_before_the_run():
    with pytest.raises(ValueError, match="'model', which is the name of something else"):
        strategy(model=Part())
    with pytest.raises(ValueError, match=r"parts= has 'a/b'; a part's name is a word"):
        strategy(**{"a/b": Part()})
    with pytest.raises(ValueError, match="it is a Part"):
        strategy(control=mean())
    with pytest.raises(ValueError, match="a part's slot is of float32 or float64; first= has int64"):
        Part(first=[np.arange(3)])
    with pytest.raises(ValueError, match="max_update_norm= measures what a client sends"):
        strategy(pace=Pace(max_update_norm=1.0))
