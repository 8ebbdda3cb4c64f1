"""What ends a run before its last round, which version is kept as the best, and when there is an evaluation."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.events import ExchangeClosed, RunEnded
from umbel.pace import Pace
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import Chosen, Evaluated, Initialized, Populated, Started
from umbel.rounds.notices import RunFinished
from umbel.rounds.stopping import Standing
from umbel.runtime.contents import FileContents
from umbel.runtime.stores.codec import decode_state, encode
from umbel.runtime.stores.memory import MemoryStore
from umbel.server.strategy import Bucketing, FedAvg, FedAvgM, FedBuff, FedMedian
from umbel.testing import run_locally
from umbel.training import NumPyClient
from umbel.until import Until


class Counter(NumPyClient):
    """Adds 1; evaluates by a list of accuracies."""

    def __init__(self, accuracies=()):
        self.accuracies = accuracies

    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        number = int(parameters[0][0])
        accuracy = self.accuracies[number - 1] if self.accuracies else number / 10
        return 1 - accuracy, 1, {"accuracy": accuracy}


def run(strategy=FedAvg, rounds=8, accuracies=(), store=None, **keywords):
    given = ndarrays_to_parameters([np.zeros(2)])
    clients = {name: Counter(accuracies) for name in "ab"}
    return run_locally(strategy(initial_parameters=given, **keywords), clients, num_rounds=rounds, store=store)


def end_of(done):
    (finished,) = [event for event in done.events if isinstance(event, RunEnded)]
    return finished.rounds, finished.why


def test_a_target_of_the_clients_evaluation_ends_the_run():
    done = run(until=Until(metric="accuracy", at_least=0.35))
    assert end_of(done) == (4, "accuracy is 0.4, at least 0.35")
    assert done.arrays[0].tolist() == [4, 4]


def test_a_target_of_the_loss_is_at_most():
    assert end_of(run(until=Until(at_most=0.7))) == (3, "loss is 0.7, at most 0.7")


def test_the_owner_s_evaluation_counts_before_the_clients():
    central = run(evaluate_fn=lambda number, arrays, _: (0.0, {"accuracy": 0.9 if number == 2 else 0.0}),
                  until=Until(metric="accuracy", at_least=0.35))
    assert end_of(central) == (2, "accuracy is 0.9, at least 0.35")
    both = run(evaluate_fn=lambda number, arrays, _: (0.0, {"f1": 0.1}), until=Until(metric="accuracy", at_least=0.35))
    assert end_of(both)[0] == 4  # the owner's has no accuracy


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.array], ids=lambda kind: kind.__name__)
def test_a_number_counts_whatever_its_type(kind):
    done = run(
        evaluate_fn=lambda number, arrays, _: (kind(8 - number), {"f1": kind(number)}),
        until=Until(metric="f1", at_least=4),
        keep_best="loss",
    )
    assert end_of(done) == (4, "f1 is 4, at least 4")
    assert done.coordinator.state.standing.best == 4.0


def test_a_plateau_ends_the_run():
    accuracies = [0.1, 0.5, 0.52, 0.4, 0.52, 0.9, 0.9, 0.9]
    done = run(accuracies=accuracies, until=Until(metric="accuracy", patience=3, min_delta=0.05))
    assert end_of(done) == (5, "accuracy has not become better than 0.5 for 3 rounds")


def test_time_ends_the_run_at_the_end_of_a_round():
    rules = Rules(run="r", min_available=1, pace=Pace(quorum=0, retries=0, until=Until(seconds=10)))
    machine = Coordinator(rules, State(num_rounds=5))
    machine.handle(Started(), 0.0)
    machine.handle(Populated(1), 0.0)
    machine.handle(Initialized(True), 0.0)
    machine.handle(Evaluated(), 0.0)
    for moment in (4.0, 9.0, 10.5):
        machine.handle(Chosen(()), moment)
        machine.handle(Evaluated(), moment)
        assert not machine.done
        commands = machine.handle(Chosen(()), moment)
    assert machine.done
    assert [c.event.why for c in commands if isinstance(getattr(c, "event", None), RunFinished)] == ["10 s have passed"]


def test_nothing_watched_runs_to_the_end():
    assert end_of(run(rounds=3)) == (3, "all rounds done")
    assert end_of(run(rounds=3, until=Until(metric="nobody's", at_least=0))) == (3, "all rounds done")


def notes_of(done):
    return [event.note for event in done.events if isinstance(event, ExchangeClosed) and event.kind == "evaluate"]


def test_a_metric_that_nobody_reports_is_said_with_those_that_are_there():
    missing = "{} watches 'acuracy', which no evaluation has reported so far; they report loss, accuracy"
    assert notes_of(run(rounds=2, until=Until(metric="acuracy", at_least=0.9))) == [missing.format("until")] * 2
    assert notes_of(run(rounds=1, keep_best="acuracy")) == [missing.format("keep_best")]
    assert notes_of(run(rounds=2, keep_best="accuracy", until=Until(patience=5))) == ["", ""]
    assert notes_of(run(rounds=1, until=Until(seconds=1e6, metric="acuracy"))) == [""]  # it does not matter
    central = run(rounds=2, keep_best="f1", evaluate_fn=lambda number, arrays, _: (0.0, {"f1": 0.1}))
    assert notes_of(central) == ["", ""]


def test_a_run_goes_on_counting_after_a_resume():
    state = State(num_rounds=9, standing=Standing(0.5, 3, 0.25, 3), measured={"loss": 1.0})
    assert decode_state(encode(state)) == state
    pace = Pace(until=Until(patience=2), keep_best="loss")
    assert Pace(**asdict(pace)) == pace


def test_the_best_version_is_kept_beside_the_newest(tmp_path):
    store = MemoryStore(FileContents(tmp_path))
    done = run(accuracies=[0.1, 0.6, 0.3, 0.6, 0.2], rounds=5, store=store, keep_best="accuracy")
    standing = done.coordinator.state.standing
    assert (standing.best, standing.best_version, standing.best_round) == (0.6, 2, 2)  # the first of equals
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["model-000002", "model-000005"]


def test_the_best_by_loss_is_the_lowest():
    done = run(accuracies=[0.1, 0.6, 0.3], rounds=3, keep_best="loss")
    assert done.coordinator.state.standing.best_version == 2


def test_evaluation_every_other_round():
    asked = []
    done = run(rounds=5, evaluate_every=2, evaluate_fn=lambda number, arrays, _: asked.append(number))
    assert asked == [0, 2, 4]
    assert [number for number, _ in done.history.losses_distributed] == [2, 4]


def test_a_strategy_around_another_ends_as_that_one():
    inner = FedMedian(initial_parameters=ndarrays_to_parameters([np.zeros(2)]), until=Until(at_most=0.85), keep_best="loss")
    done = run_locally(Bucketing(inner), {name: Counter() for name in "ab"}, num_rounds=5)
    assert end_of(done)[0] == 2
    assert done.coordinator.state.standing.best_version == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Until(),
        lambda: Until(at_least=1, at_most=0),
        lambda: Until(patience=0),
        lambda: Until(seconds=0),
        lambda: Until(patience=1, min_delta=-1),
        lambda: FedAvg(evaluate_every=0),
    ],
)
def test_what_can_never_end_is_refused(make):
    with pytest.raises(ValueError, match=r"give|not both|1 or more|above 0|0 or more"):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FedAvg(untill=Until(seconds=1)), r"FedAvg\(\) has no keyword 'untill'; did you mean 'until'\?"),
        (lambda: FedMedian(keep_bst="loss"), r"FedMedian\(\) has no keyword 'keep_bst'; did you mean 'keep_best'\?"),
        (lambda: FedAvgM(evaluate_evry=2), "did you mean 'evaluate_every'"),
        (lambda: FedAvgM(sever_learning_rate=0.1), "did you mean 'server_learning_rate'"),
        (lambda: Bucketing(FedMedian(), bucketsize=2), "did you mean 'bucket_size'"),
        (lambda: Bucketing(FedMedian(), until=Until(seconds=1)), r"no keyword 'until'; it has bucket_size, strategy"),
        (lambda: Until(at_lest=0.97), r"Until\(\) has no keyword 'at_lest'; did you mean 'at_least'\?"),
        (lambda: Until(patient=3), "did you mean 'patience'"),
        (lambda: Pace(qourum=3), "did you mean 'quorum'"),
        (lambda: FedAvg(until="accuracy"), r"until='accuracy'; it is an Until, .* write until=Until\(metric='accuracy'"),
        (lambda: FedAvg(keep_best=True), "keep_best=True; it is 'loss' or the name of a metric"),
        (lambda: FedAvg(evaluate_every="2"), "evaluate_every='2'; it is a whole number of rounds"),
        (lambda: FedAvg(evaluate_every=0.5), "evaluate_every=0.5; it is a whole number of rounds"),
        (lambda: Until(metric="accuracy", at_least="0.97"), "at_least='0.97'; it is a finite number"),
        (lambda: Until(metric=0.97, patience=3), "metric=0.97; it is 'loss' or the name of a metric"),
        (lambda: FedAvgM(server_learning_rate="0.1"), "server_learning_rate='0.1'; it is a number above 0, or a function"),
        (lambda: FedBuff(server_learning_rate=-1), "server_learning_rate=-1; it is a number above 0"),
        (lambda: FedAvgM(server_learning_rate=0.0), "server_learning_rate=0.0; it is a number above 0"),
    ],
)
def test_a_slip_of_the_pen_is_told_its_remedy(make, text):
    with pytest.raises((TypeError, ValueError), match=text):
        make()


def test_a_type_error_of_somebody_else_s_code_stays_as_it_is():
    class Own(FedAvg):
        def __init__(self, rate, **keywords):
            super().__init__(**keywords)
            dict.fromkeys([], rate=rate)

    with pytest.raises(TypeError, match=r"fromkeys\(\) takes no keyword"):
        Own(rate=1, until=None)
    with pytest.raises(TypeError, match=r"Own\(\) has no keyword 'rat'; did you mean 'rate'|missing"):
        Own(rat=1)


def test_a_schedule_is_asked_for_each_round():
    asked = []

    def rate(number):
        asked.append(number)
        return 0.5**number

    done = run(FedAvgM, rounds=3, server_learning_rate=rate)
    assert sorted(set(asked)) == [1, 2, 3]
    assert done.arrays[0].tolist() == [0.875, 0.875]  # each client adds 1
