"""Asynchronous rounds on simulated time: who is slow is late in the story, not in the test."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from members import Member, digest, fedavg

import umbel as fl
from umbel.common import ndarrays_to_parameters
from umbel.errors import SimulationError
from umbel.pace import Pace
from umbel.server.strategy import FedAsync, FedAvg, FedBuff
from umbel.simulation import start_simulation


class Walker(fl.client.NumPyClient):
    """Answers with a model that says who made it, and from which version."""

    def __init__(self, context):
        self.number = int(context.node_id)

    def fit(self, parameters, config):
        return [parameters[0] * 0.9 + self.number], 1, {"round": config["round"]}


def durations(client, number):
    """Client n takes n + 1 seconds, and a little more in later rounds, so that no two come together."""
    return int(client) + 1 + number * 1e-3


def simulate(strategy, *, clients=6, rounds=12, client_fn=Walker, backend="inline", times=durations, **options):
    return start_simulation(
        client_fn=client_fn,
        num_clients=clients,
        config=fl.server.ServerConfig(num_rounds=rounds, round_timeout=options.pop("timeout", None)),
        strategy=strategy,
        durations=times,
        backend=backend,
        workers=2,
        **options,
    )


def walking(cls, **options):
    versions = []
    strategy = cls(
        initial_parameters=ndarrays_to_parameters([np.array([1.0, -2.0])]),
        evaluate_fn=lambda number, arrays, _: (versions.append(arrays[0].copy()), (0.0, {}))[1],
        on_fit_config_fn=lambda number: {"round": number},
        fraction_evaluate=0.0,
        **options,
    )
    return strategy, versions


def by_hand(clients, concurrency, rounds, make_round, buffer):
    """A few lines of event simulation; everybody who can be is busy, so that nothing is drawn."""
    versions, now, queue, order = [np.array([1.0, -2.0])], 0.0, [], 0
    busy = set()
    for number in range(1, rounds + 1):
        for client in range(clients):
            if client not in busy and len(busy) < concurrency:
                busy.add(client)
                order += 1
                heapq.heappush(queue, (now + durations(str(client), number), order, client, number - 1))
        first = []
        while len(first) < buffer:
            now, place, client, version = heapq.heappop(queue)
            busy.discard(client)
            first.append((version, client, place))
        current = versions[-1]
        answers = [(versions[v] * 0.9 + client, versions[v], number - 1 - v) for v, client, _ in sorted(first)]
        versions.append(make_round(current, answers))
    return versions


def test_fedbuff_is_its_formula():
    strategy, versions = walking(FedBuff, buffer_size=2, concurrency=6, server_learning_rate=0.5)
    simulate(strategy)

    def step(current, answers):
        return current + 0.5 * sum((y - x) / np.sqrt(1 + age) for y, x, age in answers) / len(answers)

    expected = by_hand(6, 6, 12, step, 2)
    np.testing.assert_allclose(versions, expected, rtol=1e-12)
    assert len(versions) == 13


def test_fedasync_is_its_formula():
    strategy, versions = walking(FedAsync, mixing=0.6, concurrency=6)
    simulate(strategy, rounds=20)

    def step(current, answers):
        ((y, _, age),) = answers
        share = 0.6 * (1 + age) ** -0.5
        return (1 - share) * current + share * y

    np.testing.assert_allclose(versions, by_hand(6, 6, 20, step, 1), rtol=1e-12)


def test_who_is_fast_counts_more_often_and_who_is_slow_is_stale():
    strategy, _ = walking(FedBuff, buffer_size=2, concurrency=4)
    history = simulate(strategy, clients=50, rounds=30)
    rounds = dict(history.metrics_distributed_fit["round"])
    assert any(rounds[number] < number for number in rounds)  # the mean round in which the updates were begun
    assert history.failures == []


def test_what_is_too_old_is_given_up():
    strategy, _ = walking(FedBuff, buffer_size=2, concurrency=6, max_staleness=2)
    history = simulate(strategy, rounds=12)
    assert {note.reason for note in history.failures} == {"late"}
    assert "5" in {note.client for note in history.failures}
    assert "it started 3 rounds ago; max_staleness is 2" in {note.text for note in history.failures}


@pytest.mark.parametrize("cls", [FedAvg, FedBuff])
def test_any_strategy_may_carry_over_and_a_change_counts_from_where_it_started(cls):
    """FedAvg with a buffer: the mean of what each update has changed since its own version."""
    pace = Pace(goal=2, carry_over=True)
    buffered = {"buffer_size": 2, "concurrency": 6, "staleness": lambda _: 1.0}
    strategy, versions = walking(cls, pace=pace, **({} if cls is FedAvg else buffered))

    def step(current, answers):
        return current + sum(y - x for y, x, _ in answers) / len(answers)

    simulate(strategy, rounds=6)
    np.testing.assert_allclose(versions, by_hand(6, 6, 6, step, 2), rtol=1e-12)


def test_deadlines_go_by_simulated_time():
    strategy, _ = walking(FedAvg)
    history = simulate(strategy, rounds=2, timeout=3.5)
    assert [(note.round, note.client, note.text) for note in history.failures] == [
        (number, client, "no answer after 3.5 s") for number in (1, 2) for client in "345"
    ]


def test_over_selection_takes_the_first():
    strategy, _ = walking(FedAvg, pace=Pace(goal=2))
    history = simulate(strategy, rounds=1)
    assert {note.client for note in history.failures} == set("2345")


def learning(**options):
    return fedavg(FedBuff, buffer_size=3, concurrency=8, **options)


def member(context):
    return Member(context)  # numbers that end in 3 fail


@pytest.mark.system
def test_asynchronous_rounds_have_the_same_bits_on_every_backend():
    def run(backend):
        return simulate(learning(), clients=30, rounds=10, client_fn=member, backend=backend)

    inline = run("inline")
    assert inline == run("processes") == run("auto")
    assert len({value for _, value in inline.metrics_centralized["digest"]}) == 11
    assert inline.failures


class Died(BaseException):
    pass


def test_a_run_that_dies_with_a_half_full_buffer_goes_on_in_the_same_bits(tmp_path, monkeypatch):
    whole = simulate(learning(), clients=30, rounds=10, client_fn=member)
    once = []

    def dies(number, arrays, _):
        if number == 6 and not once:
            once.append(number)
            raise Died
        return float(number), {"digest": digest(arrays)}

    def seen(history):
        return history.metrics_centralized["digest"], history.metrics_distributed_fit, history.failures

    monkeypatch.setattr("sys.ps1", "", raising=False)
    monkeypatch.delattr("sys.ps1")
    store = tmp_path / "runs"
    with pytest.raises(Died):
        simulate(learning(evaluate_fn=dies), clients=30, rounds=10, client_fn=member, store=store)
    again = simulate(learning(evaluate_fn=dies), clients=30, rounds=10, client_fn=member, store=store)
    assert seen(again) == seen(whole)


def test_tasks_of_two_attempts_are_told_apart_after_a_resume(tmp_path):
    """Two that are still at work when the run dies have the same place in their cohorts, and the same parameters."""
    once = []

    class Some(Walker):
        def fit(self, parameters, config):
            if config["round"] == 1 and self.number == 2:
                raise ValueError("no data")
            return super().fit(parameters, config)

    def times(client, number):
        return 3.0 + int(client) if number > 1 else {"2": 1.0, "5": 25.0}.get(client, 60.0)

    def dies(number, arrays, _):
        if number == 2 and not once:
            once.append(number)
            raise Died
        return float(arrays[0][0]), {}

    def run(**options):
        strategy, _ = walking(FedBuff, buffer_size=2, concurrency=3)
        strategy.evaluate_fn = dies
        return simulate(strategy, client_fn=Some, times=times, timeout=10.0, seed=1, **options)

    with pytest.raises(Died):
        run(store=tmp_path / "runs")
    resumed = run(store=tmp_path / "runs")
    assert resumed == run()
    assert resumed.failures


def test_nobody_is_told_that_simulated_time_goes_by(caplog):
    caplog.set_level("INFO")
    strategy, versions = walking(FedAvg)
    simulate(strategy, rounds=2, times=lambda client, number: 86_400.0)
    assert len(versions) == 3
    assert "Waiting" not in caplog.text


def test_a_client_that_never_answers_is_late_or_ends_the_simulation_that_waits_for_it():
    def times(client, number):
        return np.inf if client == "1" else 1.0

    history = simulate(walking(FedAvg)[0], rounds=1, times=times, timeout=10.0)
    assert [(note.client, note.reason) for note in history.failures] == [("1", "late")]
    with pytest.raises(SimulationError, match="inf for all who are left"):
        simulate(walking(FedAvg)[0], rounds=1, times=times)


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match=r"durations\('0', 1\)"):
        simulate(walking(FedAvg)[0], times=lambda client, number: bad)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FedBuff(buffer_size=5, concurrency=4), "buffer_size=5 and concurrency=4"),
        (lambda: FedAsync(mixing=0.0), "mixing=0.0"),
        (lambda: Pace(carry_over=True), "carry_over=True needs a goal"),
        (lambda: Pace(goal=3, max_staleness=2), "max_staleness=2"),
    ],
)
def test_impossible_paces_are_refused_when_they_are_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


