"""callbacks=: what is called when, what a callback can look at, and what it can break: nothing."""

from __future__ import annotations

import csv
import logging
import threading
from importlib.util import find_spec

import numpy as np
import pytest

import umbel as fl
from umbel.callbacks import Callback, CSVLogger, EarlyStopping, LambdaCallback, ModelCheckpoint
from umbel.callbacks.trackers import Tracker
from umbel.params import Params
from umbel.runtime.contents import write_content
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.observers.versions import Versions
from umbel.server import Until
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation

DEADLINE = 30
EVALUATED = {"kind": "evaluate", "results": 2, "failures": 0, "seconds": 1.0, "void": "", "note": ""}
CLOSED = {"void": False, "metrics": {}, "fit_metrics": {}, "central_loss": None, "central_metrics": {}}
LOSSES = [4.0, 1.0, 2.0, 3.0, 0.5, 0.25, 0.125, 0.1]


class Adds(fl.client.NumPyClient):
    """Its loss is the table's at the sum that has come to the model."""

    def __init__(self, context):
        self.name = context.node_id

    def get_parameters(self, config):
        return [np.zeros(4, "float32")]

    def fit(self, parameters, config):
        if self.name == "2":
            raise ValueError("no data")
        return [parameters[0] + 1], 10, {"error": 0.5}

    def evaluate(self, parameters, config):
        return LOSSES[int(parameters[0][0])], 10, {"accuracy": 0.25}


def simulate(*callbacks, rounds=2, clients=3, **options):
    config = fl.server.ServerConfig(num_rounds=rounds)
    options = {"backend": "inline", **options}
    return start_simulation(client_fn=Adds, num_clients=clients, config=config, callbacks=callbacks, **options)


class Notes(Callback):
    """Notes every call, with the model as it is then."""

    def __init__(self):
        self.calls = []

    def on_run_begin(self, logs):
        self.calls.append(("run begins", logs["num_rounds"], logs["resumed"], logs["round"]))

    def on_round_begin(self, round, logs):
        self.calls.append(("begins", round, logs["num_rounds"]))

    def on_client_result(self, round, client, logs):
        self.calls.append((client, round, logs["kind"], logs["num_examples"], logs.get("loss")))

    def on_evaluate_end(self, round, logs):
        self.calls.append(("evaluated", round, {**logs}))

    def on_round_end(self, round, logs):
        (array,) = self.parameters.values()
        self.calls.append(("ends", round, {**logs}, array.tolist(), [*self.history.losses_distributed]))

    def on_run_end(self, logs):
        self.calls.append(("run ends", logs["status"], logs["rounds"]))


def ends(notes):
    return [call[1] for call in notes.calls if call[0] == "ends"]


def test_a_run_is_called_in_order_with_the_history_and_the_model_of_that_moment():
    notes = Notes()
    central = lambda number, arrays, config: (float(number), {"size": 1})  # noqa: E731
    simulate(notes, strategy=FedAvg(evaluate_fn=central), rounds=2)
    clients = lambda round, loss: [  # noqa: E731
        *((client, round, "fit", 10, None) for client in "01"),
        ("evaluated", round, {"central loss": float(round), "central size": 1}),
        *((client, round, "evaluate", 10, loss) for client in "012"),
        ("evaluated", round, {"loss": loss, "accuracy": 0.25}),
    ]
    row = {"fit error": 0.5, "accuracy": 0.25, "central size": 1}
    assert notes.calls == [
        ("run begins", 2, False, 0),
        ("evaluated", 0, {"central loss": 0.0, "central size": 1}),
        ("begins", 1, 2),
        *clients(1, 1.0),
        ("ends", 1, {**row, "loss": 1.0, "central loss": 1.0}, [1.0] * 4, [(1, 1.0)]),
        ("begins", 2, 2),
        *clients(2, 2.0),
        ("ends", 2, {**row, "loss": 2.0, "central loss": 2.0}, [2.0] * 4, [(1, 1.0), (2, 2.0)]),
        ("run ends", "finished", 2),
    ]


def test_a_slow_callback_looks_at_the_version_that_it_is_told_of():
    """The run has ended, and has done with every version but the last, before the first round is told."""
    over = threading.Event()

    class Slow(Notes):
        def on_run_begin(self, logs):
            assert over.wait(DEADLINE)

    slow = Slow()

    def central(number, arrays, config):
        if number == 7:
            over.set()
        return 0.0, {}

    simulate(slow, strategy=FedAvg(evaluate_fn=central), rounds=7)
    assert [call[3][0] for call in slow.calls if call[0] == "ends"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_versions_wait_for_their_readers_and_the_run_for_them(monkeypatch, caplog):
    from umbel.runtime.observers import versions

    monkeypatch.setattr(versions, "MOST", 3)
    monkeypatch.setattr(versions, "PROMPT", 0.01)
    contents, kept, done = MemoryContents(), Versions(), threading.Event()
    for number in range(6):
        params = Params.of([np.full(2, number)])
        write_content(contents, str(number), params.schema, [params.buffer.data])

    def run():
        for number in range(6):
            kept.put(number, contents.open(str(number)))
        done.set()

    thread = threading.Thread(target=run)
    with caplog.at_level(logging.WARNING, "umbel"):
        thread.start()
        tick = threading.Event()
        while "The run waits for its callbacks, which are 2 versions behind" not in caplog.text:
            tick.wait(0.001)
        assert not done.is_set()
        for number in (0, 1, 3, 4, 5):
            while number not in [version for version, _ in kept._waiting]:  # an event follows its version
                tick.wait(0.001)
            kept.turn_to(number)
            content = kept.current()
            assert content.read(content.size - 8, 8) == np.int64(number).tobytes()
    thread.join(DEADLINE)
    assert done.is_set()


def test_callbacks_change_nothing(tmp_path):
    class Spoils(Notes):
        def on_round_end(self, round, logs):
            super().on_round_end(round, logs)
            self.parameters["0"][:] = 100
            self.history.losses_distributed.clear()

    alone = simulate(rounds=4)
    assert simulate(Spoils(), CSVLogger(tmp_path / "rounds.csv"), rounds=4) == alone


@pytest.mark.parametrize("error", [KeyError("rows"), SystemExit(3)])
def test_one_that_raises_is_named_once_and_called_no_more_and_the_run_goes_on(error, caplog):
    class Breaks(Notes):
        def on_round_end(self, round, logs):
            super().on_round_end(round, logs)
            raise error

    breaks, whole = Breaks(), Notes()
    with caplog.at_level(logging.WARNING, "umbel"):
        history = simulate(breaks, whole, rounds=3)
    assert [number for number, _ in history.losses_distributed] == [1, 2, 3]
    assert (ends(breaks), ends(whole)) == ([1], [1, 2, 3])
    (line,) = [record.message for record in caplog.records if "Breaks" in record.message]
    assert "it is told nothing more" in line


def rows_of(path):
    with open(path, newline="") as file:
        return [*csv.reader(file)]


def fails_once_at(number):
    broken = [True]

    def central(at, arrays, config):
        if at == number and broken.pop():
            broken.append(False)
            raise LookupError("mend me")
        if not broken:
            broken.append(False)
        return float(arrays[0].sum()) / 3, {"size": 1}

    return central


def test_a_run_that_goes_on_reports_each_round_once(tmp_path):
    strategy = FedAvg(evaluate_fn=fails_once_at(3))
    first, second = Notes(), Notes()
    table, best = CSVLogger(tmp_path / "{run}.csv"), ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    with pytest.raises(LookupError):
        simulate(first, table, best, strategy=strategy, rounds=4, store=tmp_path)
    simulate(second, table, best, strategy=strategy, rounds=4, store=tmp_path)
    assert (ends(first), ends(second)) == ([1, 2], [3, 4])
    assert first.calls[-1] == ("run ends", "interrupted", 3)
    assert second.calls[0] == ("run begins", 4, True, 2)
    (file,) = tmp_path.glob("*.csv")
    rows = rows_of(file)
    assert [row[0] for row in rows] == ["round", "0", "1", "2", "3", "4"]
    assert sorted(rows[0][1:]) == ["accuracy", "central loss", "central size", "fit error", "loss"]
    assert [float(row[rows[0].index("central loss")]) for row in rows[1:]] == [0.0, 4 / 3, 8 / 3, 4.0, 16 / 3]
    assert rows[1][rows[0].index("loss")] == ""
    assert Params.from_bytes((tmp_path / "best.safetensors").read_bytes()).arrays()[0][0] == 1  # by evaluate_fn's loss


def test_what_an_earlier_process_had_no_time_to_report_is_caught_up_on():
    """A process that is killed may have done rounds that it has told nobody of."""
    told = []

    class Reports:
        last = 1

        def log(self, number, numbers):
            told.append((number, numbers.get("loss")))

        def end(self, status):
            told.append(status)

    from umbel.callbacks.calls import observers_of
    from umbel.callbacks.course import Course

    course = Course()
    tell = observers_of([Tracker("mine", lambda run: Reports())], course)
    course.begin(fl.server.History(losses_distributed=[(1, 4.0), (2, 3.0), (3, 2.0)]))
    happened = [
        fl.events.RunResumed(at=0.0, run="r", round=4, num_rounds=4, version=None),
        fl.events.ExchangeClosed(**EVALUATED, at=1.0, round=4, loss=1.0, metrics={"name": "b"}),
        fl.events.RoundClosed(**CLOSED, at=1.0, round=4, version=4, loss=1.0),
        fl.events.RunEnded(at=1.0, rounds=4, status="finished", why=""),
    ]
    for event in happened:
        for one in tell:
            one(event)
    assert told == [(2, 3.0), (3, 2.0), (4, 1.0), "finished"]


def test_early_stopping_is_a_rule_of_the_run():
    by_rule = simulate(strategy=FedAvg(until=Until(patience=2)), rounds=7)
    by_callback = simulate(EarlyStopping(patience=2), rounds=7)
    assert by_callback == by_rule
    assert [number for number, _ in by_callback.losses_distributed] == [1, 2, 3]
    larger = simulate(EarlyStopping(monitor="loss", mode="max", patience=2), rounds=7)
    assert [number for number, _ in larger.losses_distributed] == [1, 2, 3, 4, 5]
    for strategy, others in [(FedAvg(until=Until(seconds=9)), []), (FedAvg(), [EarlyStopping()])]:
        with pytest.raises(ValueError, match="a run ends by one rule: leave one of them out"):
            simulate(EarlyStopping(), *others, strategy=strategy)


def test_model_checkpoints_are_model_files(tmp_path):
    every = ModelCheckpoint(tmp_path / "of" / "{run}-{round:02}-{loss:.1f}.safetensors")
    best = ModelCheckpoint(tmp_path / "best-{round}.safetensors", save_best_only=True)
    most = ModelCheckpoint(tmp_path / "most.safetensors", save_best_only=True, mode="max")
    simulate(every, best, most, rounds=5)
    names = sorted(path.name for path in (tmp_path / "of").iterdir())
    said = fl.load(tmp_path / "of" / names[2]).metadata
    assert (said["run"], said["round"], said["loss"]) == ("simulation", "3", "3.0")
    assert names == [f"simulation-{number:02}-{LOSSES[number]:.1f}.safetensors" for number in range(1, 6)]
    assert sorted(path.name for path in tmp_path.glob("best*")) == [f"best-{number}.safetensors" for number in (1, 4, 5)]
    most = fl.load(tmp_path / "most.safetensors")
    assert most[0].tolist() == [3.0] * 4
    assert (most.metadata["round"], most.metadata["loss"]) == ("3", str(LOSSES[3]))


def test_a_checkpoint_named_after_what_no_round_has_says_what_there_is(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "umbel"):
        simulate(ModelCheckpoint(tmp_path / "{epoch}-{loss}.safetensors"))
    assert "has {epoch}, which no round has; there are {accuracy}, {fit error}, {loss}, {round}, {run}" in caplog.text


def test_functions_are_a_callback():
    seen = []
    simulate(LambdaCallback(on_round_end=lambda round, logs: seen.append((round, logs["loss"]))))
    assert seen == [(1, 1.0), (2, 2.0)]


def test_a_server_calls_them_too(tmp_path, caplog):
    notes, tick = Notes(), threading.Event()
    options = {"config": fl.server.ServerConfig(num_rounds=2), "callbacks": [notes], "store": tmp_path}
    with caplog.at_level(logging.INFO, "umbel"):
        server = threading.Thread(target=fl.server.start_server, kwargs={**options, "server_address": "127.0.0.1:0"})
        server.start()
        said = []
        while not said and server.is_alive():
            tick.wait(0.001)
            said = [record.args[0] for record in caplog.records if record.msg.startswith("Umbel server on")]
        clients = []
        for name in "01":
            given = {"server_address": said[0], "client": Adds(fl.common.Context(node_id=name))}
            clients.append(threading.Thread(target=fl.client.start_client, kwargs=given))
            clients[-1].start()
        for thread in [*clients, server]:
            thread.join(DEADLINE)
    row = {"accuracy": 0.25, "fit error": 0.5}
    done = [call[1:4] for call in notes.calls if call[0] == "ends"]
    assert done == [(round, {**row, "loss": LOSSES[round]}, [float(round)] * 4) for round in (1, 2)]
    assert notes.calls[-1] == ("run ends", "finished", 2)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("on_epoch_end", "on_round_end"), ("on_train_begin", "on_run_begin"), ("on_test_end", "on_evaluate_end")],
)
def test_a_method_that_no_run_calls_is_named_when_the_class_is_made(theirs, ours):
    with pytest.raises(TypeError, match=f"Mine has a method '{theirs}', which no run calls; did you mean '{ours}'?"):
        type(Callback)("Mine", (Callback,), {theirs: lambda self, *told: None})


def test_what_is_no_callback_is_named_with_the_remedy():
    class EarlyStopping:  # as another library's
        pass

    for wrong, remedy in [
        ([fl.callbacks.EarlyStopping], r"this is the class; write EarlyStopping\(\)|write EarlyStopping"),
        ([lambda event: None], r"a function of events goes into observers="),
        ([EarlyStopping()], r"umbel.callbacks.EarlyStopping is the one for a run"),
        ("csv", "it is a list, each a Callback"),
    ]:
        with pytest.raises(fl.errors.SimulationError, match=remedy):
            start_simulation(client_fn=Adds, num_clients=3, callbacks=wrong)
    with pytest.raises(fl.errors.SimulationError, match=r"write callbacks=\[CSVLogger\(…\)\]"):
        start_simulation(client_fn=Adds, num_clients=3, callbacks=CSVLogger("rounds.csv"))
    notes = Notes()
    simulate(notes)
    with pytest.raises(LookupError, match=r"the run is over; .* history.parameters"):
        _ = notes.parameters
    with pytest.raises(RuntimeError, match="not part of a run so far: give it as callbacks="):
        _ = Notes().history


def test_a_tracker_that_is_not_there_is_said_before_the_first_round(monkeypatch):
    from umbel.callbacks import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    with pytest.raises(ImportError, match="pip install wandb"):
        simulate(report_to=["wandb"])
    with pytest.raises(fl.errors.SimulationError, match="did you mean 'tensorboard'"):
        simulate(report_to="tensorbord")


def test_reports_go_to_a_csv_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulate(report_to="csv", rounds=2)
    assert [row[0] for row in rows_of("umbel-simulation.csv")] == ["round", "1", "2"]
