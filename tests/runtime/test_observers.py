"""observers=: what is told of a run, in which order, what of it twice, and what an observer can break: nothing."""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
import threading
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import umbel as fl
from umbel import events
from umbel.events import (
    CentrallyEvaluated,
    CohortChosen,
    ExchangeClosed,
    PopulationJoined,
    RoundClosed,
    RoundStarted,
    RunEnded,
    RunInterrupted,
    RunResumed,
    RunStarted,
    TaskAnswered,
    TaskFailed,
    TaskSent,
    VersionMade,
)
from umbel.runtime.observers import audience
from umbel.runtime.observers.audience import Audience
from umbel.server import Pace, Until
from umbel.server.strategy import FedAvg, FedAvgM, FedBuff, PowerOfChoice
from umbel.simulation import start_simulation

MODEL = 64 + 16  # bytes of a content: the header and its length, four float32
DEADLINE = 30


class Adds(fl.client.NumPyClient):
    def __init__(self, context):
        self.name = context.node_id

    def get_parameters(self, config):
        return [np.zeros(4, "float32")]

    def fit(self, parameters, config):
        if self.name == "2":
            raise ValueError("no data")
        return [parameters[0] + int(self.name)], 10, {"error": 0.5}

    def evaluate(self, parameters, config):
        if self.name == "1":
            return float("nan"), 10, {}
        return float(parameters[0][0]), 10, {"accuracy": 0.25}


def simulate(observers, *, strategy=None, clients=3, rounds=2, **options):
    config = fl.server.ServerConfig(num_rounds=rounds)
    options = {"backend": "inline", **options}
    return start_simulation(
        client_fn=Adds, num_clients=clients, config=config, strategy=strategy, observers=observers, **options
    )


def told(**options):
    seen = []
    history = simulate([seen.append], **options)
    return seen, history


def names(seen):
    return [type(event).__name__ for event in seen]


def test_a_run_is_told_in_order_with_who_how_long_and_how_much():
    central = lambda number, arrays, config: (0.5 + number, {"size": len(arrays)})  # noqa: E731
    seen, history = told(strategy=FedAvg(evaluate_fn=central), rounds=1)
    asked = ["CohortChosen", *["TaskSent"] * 3]
    assert names(seen) == [
        *("RunStarted", "PopulationJoined", "CohortChosen", "TaskSent", "TaskAnswered"),
        *("ModelInitialized", "VersionMade", "CentrallyEvaluated"),
        *("RoundStarted", *asked, "TaskAnswered", "TaskAnswered", "TaskFailed", "ExchangeClosed", "VersionMade"),
        *("CentrallyEvaluated", *asked, "TaskAnswered", "TaskAnswered", "TaskAnswered", "ExchangeClosed", "RoundClosed"),
        "RunEnded",
    ]
    assert [event.at for event in seen] == sorted(event.at for event in seen)
    kinds = defaultdict(list)
    for event in seen:
        kinds[type(event)].append(event)
    assert (kinds[RunStarted][0].run, kinds[RunStarted][0].num_rounds) == ("simulation", 1)
    assert (kinds[PopulationJoined][0].clients, kinds[RoundStarted][0].round) == (3, 1)
    assert [event.clients for event in kinds[CohortChosen]] == [("0",), ("0", "1", "2"), ("0", "1", "2")]

    size = kinds[VersionMade][0].bytes
    assert size == MODEL
    assert [(v.round, v.version, v.bytes) for v in kinds[VersionMade]] == [(0, 0, size), (1, 1, size)]
    sent = [(s.kind, s.client, s.version, s.bytes, s.again) for s in kinds[TaskSent]]
    assert sent[0] == ("parameters", "0", None, 0, False)
    assert sent[1:] == [(kind, c, v, size, False) for v, kind in enumerate(("fit", "evaluate")) for c in "012"]
    answers = [(a.kind, a.client, a.version, a.bytes, a.num_examples, a.metrics) for a in kinds[TaskAnswered]]
    assert answers[:3] == [
        ("parameters", "0", None, size, 0, {}),
        *(("fit", client, 0, size, 10, {"error": 0.5}) for client in "01"),
    ]
    assert answers[3] == ("evaluate", "0", 1, 0, 10, {"accuracy": 0.25})
    assert [a.loss for a in kinds[TaskAnswered]][:4] == [None, None, None, 0.5]
    begun = {event.task: event.at for event in kinds[TaskSent]}
    ended = kinds[TaskAnswered] + kinds[TaskFailed]
    assert {event.task for event in ended} == set(begun)
    assert all(event.seconds == event.at - begun[event.task] >= 0 for event in ended)
    (failed,) = kinds[TaskFailed]
    assert (failed.client, failed.reason, failed.version, failed.kind, failed.round) == ("2", "raised", 0, "fit", 1)
    assert failed.text.startswith("fit raised ValueError: no data (test_observers.py:")
    assert "raise ValueError" in failed.detail

    fit, evaluate = kinds[ExchangeClosed]
    assert (fit.kind, fit.results, fit.failures, fit.loss, fit.metrics, fit.void) == ("fit", 2, 1, None, {"error": 0.5}, "")
    assert (evaluate.kind, evaluate.results, evaluate.failures, evaluate.loss) == ("evaluate", 3, 0, 0.5)
    assert [(c.round, c.version, c.loss) for c in kinds[CentrallyEvaluated]] == [(0, 0, 0.5), (1, 1, 1.5)]
    (closed,) = kinds[RoundClosed]
    assert (closed.round, closed.version, closed.void) == (1, 1, False)
    assert (closed.loss, closed.central_loss, closed.central_metrics) == (0.5, 1.5, {"size": 1})
    assert (closed.metrics, closed.fit_metrics) == ({"accuracy": 0.25}, {"error": 0.5})
    assert history.losses_distributed == [(1, 0.5)]
    (end,) = kinds[RunEnded]
    assert (end.rounds, end.status, end.why) == (1, "finished", "all rounds done")


def test_observers_change_nothing_and_cannot(tmp_path):
    def spoils(event):
        for name in ("metrics", "fit_metrics"):
            getattr(event, name, {})["spoilt"] = 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.at = 0.0

    options = {"strategy": FedAvg(evaluate_fn=lambda number, arrays, config: (float(arrays[0].sum()), {})), "rounds": 3}
    alone = simulate([], **options)
    assert simulate([spoils], **options) == alone
    assert simulate([spoils], store=tmp_path, **options) == alone


def test_what_came_of_the_history_can_be_added_up_from_the_events():
    seen, history = told(rounds=4)
    closed = [event for event in seen if isinstance(event, RoundClosed)]
    assert [(event.round, event.loss) for event in closed] == history.losses_distributed
    assert {"error": [(event.round, event.fit_metrics["error"]) for event in closed]} == history.metrics_distributed_fit
    assert [e.client for e in seen if isinstance(e, TaskFailed)] == [note.client for note in history.failures]


def test_a_void_round_says_why_and_makes_no_version():
    rate = lambda number: 1e40 if number == 2 else 0.5  # noqa: E731
    seen, _ = told(strategy=FedAvgM(server_learning_rate=rate), rounds=3)
    assert [e.version for e in seen if isinstance(e, VersionMade)] == [0, 1, 3]
    assert [(e.round, e.version, e.void) for e in seen if isinstance(e, RoundClosed)] == [
        (1, 1, False), (2, 1, True), (3, 3, False),
    ]
    void = [e.void for e in seen if isinstance(e, ExchangeClosed) and e.kind == "fit"]
    assert [text[:17] for text in void] == ["", "the round is void", ""]
    assert all(e.note == "" for e in seen if isinstance(e, ExchangeClosed) and e.kind == "fit")  # void is not in it, too


def test_late_answers_early_ends_and_simulated_seconds_are_told():
    strategy = FedAvg(pace=Pace(deadline=5.0), until=Until(seconds=4.0), fraction_evaluate=0.0, min_evaluate_clients=0)
    seen, _ = told(strategy=strategy, rounds=9, durations=lambda client, number: 60.0 if client == "1" else 1.0 + number)
    (late,) = [e for e in seen if isinstance(e, TaskFailed) and e.reason == "late"]
    assert (late.client, late.seconds, late.kind) == ("1", 5.0, "fit")
    assert [e.seconds for e in seen if isinstance(e, TaskAnswered) and e.kind == "fit"] == [2.0]
    assert (seen[-1].rounds, seen[-1].status) == (1, "finished")
    assert seen[-1].why.endswith("have passed")


def test_an_asynchronous_run_tells_from_which_version_each_answer_is():
    strategy = FedBuff(buffer_size=1, concurrency=2, fraction_evaluate=0.0)
    seen, _ = told(strategy=strategy, clients=2, rounds=6, durations=lambda client, number: 1.0 + 3 * int(client))
    answers = [e for e in seen if isinstance(e, TaskAnswered) and e.kind == "fit"]
    behind, newest = [], 0
    for event in seen:
        if isinstance(event, VersionMade):
            newest = event.version
        elif event in answers:
            behind.append(newest - event.version)
    assert set(behind) > {0}
    assert max(Counter(e.task for e in answers).values()) == 1
    assert {e.task for e in answers} <= {e.task for e in seen if isinstance(e, TaskSent)}


def test_exchanges_of_a_strategy_s_own_are_told_under_their_names():
    seen, _ = told(strategy=PowerOfChoice(FedAvg(min_fit_clients=1), candidates=3), rounds=1)
    asked = [(e.client, e.loss, e.num_examples) for e in seen if isinstance(e, TaskAnswered) and e.kind == "candidates"]
    assert [(client, examples) for client, _, examples in asked] == [("0", 10), ("1", 10), ("2", 10)]
    assert [loss for _, loss, _ in asked][::2] == [0.0, 0.0]
    kinds = [e.kind for e in seen if isinstance(e, TaskSent)]
    assert kinds[1:4] == ["candidates"] * 3
    assert [e.kind for e in seen if isinstance(e, ExchangeClosed)] == ["candidates", "fit", "evaluate"]
    assert len([e for e in seen if isinstance(e, RoundClosed)]) == 1
    tasks = {e.task for e in seen if isinstance(e, TaskSent)}
    assert tasks == {e.task for e in seen if isinstance(e, (TaskAnswered, TaskFailed))}


@pytest.mark.parametrize("error", [KeyError("rows"), SystemExit(3), KeyboardInterrupt()])
def test_an_observer_that_raises_is_named_once_and_dropped_and_the_run_goes_on(error, caplog):
    class Rows:
        times = 0

        def __call__(self, event):
            if isinstance(event, RoundClosed):
                self.times += 1
                raise error

    rows, seen = Rows(), []
    with caplog.at_level(logging.WARNING, "umbel"):
        history = simulate([rows, seen.append])
    assert len(history.losses_distributed) == 2
    assert rows.times == 1
    assert isinstance(seen[-1], RunEnded)
    (line,) = [record.message for record in caplog.records if "Observer" in record.message]
    place = r"\(test_observers\.py:\d+\)"
    assert re.fullmatch(rf"Observer Rows raised {type(error).__name__}.* {place}; it is told nothing more", line)


def test_the_run_waits_for_a_slow_observer_only_when_many_events_wait_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(audience, "ROOM", 3)
    monkeypatch.setattr(audience, "PROMPT", 0.01)
    open_, seen, waits = threading.Event(), [], threading.Event()

    def slow(event):
        assert open_.wait(DEADLINE)
        seen.append(event)

    class Watch(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "The run waits for observer slow, which 3 events wait for":
                waits.set()

    watch = Watch()
    logger = logging.getLogger("umbel")
    logger.addHandler(watch)
    try:
        run = threading.Thread(target=lambda: simulate([slow], rounds=1))
        run.start()
        assert waits.wait(DEADLINE)
        assert seen == []
        open_.set()
        run.join(DEADLINE)
    finally:
        logger.removeHandler(watch)
    assert not run.is_alive()
    assert (names(seen)[0], names(seen)[-1]) == ("RunStarted", "RunEnded")  # nothing is lost


def test_a_run_returns_only_when_its_observers_have_been_told_everything(monkeypatch, caplog):
    monkeypatch.setattr(audience, "PROMPT", 0.01)
    monkeypatch.setattr(audience, "NAG_EVERY", 0.01)
    seen = []

    class Slow:
        """Goes on only after it has been said that the run waits for it."""

        def __call__(self, event):
            if isinstance(event, RunEnded):
                until = threading.Event()
                while "The run is over; observer Slow has 0 more events to be told" not in caplog.text:
                    until.wait(0.001)
            seen.append(event)

    with caplog.at_level(logging.INFO, "umbel"):
        simulate([Slow()], rounds=1)
    assert isinstance(seen[-1], RunEnded)


def test_whoever_is_told_nothing_starts_no_thread():
    with Audience([]) as nobody, Audience([print]):
        assert not nobody
        simulate([], rounds=1)
        assert "umbel-observers" not in {thread.name for thread in threading.enumerate()}


def test_a_simulation_that_goes_on_tells_of_the_rounds_that_it_does_and_of_no_others(tmp_path):
    def central(number, arrays, config):
        if number == 3 and broken:
            raise LookupError("mend me")
        return float(arrays[0].sum()), {}

    strategy = FedAvg(evaluate_fn=central)
    first, second = [], []
    broken = True
    with pytest.raises(LookupError):
        simulate([first.append], strategy=strategy, rounds=4, store=tmp_path)
    broken = False
    simulate([second.append], strategy=strategy, rounds=4, store=tmp_path)
    assert isinstance(first[-1], RunInterrupted)
    assert first[-1].why == "LookupError: mend me"
    resumed = second[0]
    assert isinstance(resumed, RunResumed)
    assert (resumed.round, resumed.version, resumed.num_rounds, resumed.run) == (3, 2, 4, first[0].run)
    assert [e.round for e in first if isinstance(e, RoundClosed)] == [1, 2]
    assert [e.round for e in second if isinstance(e, RoundClosed)] == [3, 4]
    assert [e.version for e in second if isinstance(e, VersionMade)] == [3, 4]
    assert {e.round for e in second if isinstance(e, TaskAnswered)} == {3, 4}  # round 3 is done again, and told again


def test_observers_are_functions_of_an_event():
    def watch(event):
        pass

    class Rows:
        def __call__(self, event):
            pass

    for wrong, remedy in [
        (watch, r"write observers=\[watch\]"),
        (Rows(), "give a list"),
        ([Rows], r"Rows is the class; write observers=\[Rows\(\)\]"),
        ([lambda: None], r"each a function \(event\) → None: this one takes \(\)"),
        ([3], "it is a list, each a function"),
    ]:
        with pytest.raises(fl.errors.SimulationError, match=f"^observers=.*{remedy}"):
            simulate(wrong)
    simulate(iter([watch, Rows()]), rounds=0)


def test_the_page_says_what_there_is_and_its_example_works(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "observers.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, re.M)) == set(events.__all__) - {"Event", "Observer"}
    fields = dict(re.findall(r"^\| `(\w+)` +\| (.*?) +\|", page, re.M))
    for name, listed in fields.items():
        there = {field.name for field in dataclasses.fields(getattr(events, name))} - {"at"}
        assert set(re.findall(r"`(\w+)`", listed)) == there, name

    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    place = {"__name__": "page", "client_fn": Adds, "num_rounds": 3}
    exec(program, place)
    with open("rounds.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["1", "2", "3"]
