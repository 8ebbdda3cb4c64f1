"""What clients may say in all rounds together: names of metrics, words about failures, and sizes that no model says."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.events import ExchangeClosed
from umbel.remarks import listening
from umbel.reports import Room
from umbel.rounds.messages import Kind, Task
from umbel.runtime import bounds
from umbel.runtime.bounds import ALWAYS, OWN_NAMES, PER_CLIENT, keep_names
from umbel.runtime.contents import FileContents
from umbel.runtime.largest import MOST, largest_update
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.server import ServerConfig, Until
from umbel.server.strategy import FedAvg
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient

START = ndarrays_to_parameters([np.zeros(2)])


class Honest(NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1], 10, {"error": 0.5}

    def evaluate(self, parameters, config):
        return 0.5, 10, {"accuracy": parameters[0][0] / 10}


class Floods(Honest):
    """A thousand names that nobody has heard, each time."""

    def __init__(self):
        self.asked = 0

    def many(self):
        self.asked += 1
        return {f"{i}-{self.asked}": 1.0 for i in range(999)}

    def fit(self, parameters, config):
        return [parameters[0] + 1], 10, self.many()

    def evaluate(self, parameters, config):
        return 0.5, 10, self.many()


def flooded(rounds=4, **keywords):
    """The flood comes from the first client in the order of tasks."""
    return run_locally(FedAvg(initial_parameters=START, **keywords), {"a": Floods(), "h": Honest()}, num_rounds=rounds)


def test_a_flood_of_names_ends_where_the_room_does_and_the_others_names_stay():
    done = flooded()
    for metrics, mine in ((done.history.metrics_distributed_fit, "error"), (done.history.metrics_distributed, "accuracy")):
        assert len(metrics) == 1000
        assert [number for number, _ in metrics[mine]] == [1, 2, 3, 4]
    notes = [event.note for event in done.events if isinstance(event, ExchangeClosed) and event.kind == "fit"]
    said = "999 metrics have names that were not there before, such as '0-3', and are not kept"
    assert notes[:2] == ["", f"{said}: there is room for 1,000 names; max_metrics= makes more"]
    assert notes[2] == "999 metrics have names that were not there before, such as '0-5', and are not kept"


def test_a_watched_metric_is_kept_whoever_came_first():
    class Late(Honest):
        def evaluate(self, parameters, config):
            reached = {"accuracy": 0.9} if parameters[0][0] > 2 else {}
            return 0.5, 10, reached

    strategy = FedAvg(initial_parameters=START, until=Until(metric="accuracy", at_least=0.8))
    done = run_locally(strategy, {"a": Floods(), "h": Late()}, num_rounds=9)
    assert done.coordinator.state.completed == 3


def kept(history, metrics, sent=(), most=10, always=()):
    with listening() as heard:
        found = keep_names(history, Kind.FIT, metrics, sent=sent, room=Room(metrics=most), always=always)
    return [*found], [said.text for said in heard]


def test_names_that_an_owner_s_function_makes_have_room_of_their_own():
    own = {f"accuracy of {i}": 1.0 for i in range(100)}
    assert kept(History(), own) == ([*own], [])
    brought, said = kept(History(), own | {f"m{i}": 1.0 for i in range(20)}, sent={f"m{i}" for i in range(20)})
    assert brought == [*list(own)[:90], *(f"m{i}" for i in range(10))]  # in the order in which they were
    assert said[0].startswith("20 metrics have names that were not there before, such as 'm10', and are not kept")
    assert len(kept(History(), {f"m{i}": 1.0 for i in range(1000)})[0]) == OWN_NAMES * 10


def test_long_names_have_less_room_and_known_ones_need_none():
    history = History(metrics_distributed_fit={f"known {i}": [(1, 0.5)] for i in range(10)})
    assert kept(history, {"known 1": 1.0, "new": 2.0}, sent={"new"})[0] == ["known 1"]
    assert kept(history, {"new": 2.0}, sent={"new"}, always=("new",))[0] == ["new"]
    assert kept(History(), {"x" * 600: 1.0, "y" * 50: 1.0, "z": 1.0}, sent={"x" * 600, "y" * 50, "z"})[0] == ["x" * 600, "z"]


# ---- failures


class Complains(Honest):
    def __init__(self, words):
        self.words = words

    def fit(self, parameters, config):
        raise ValueError(self.words)


def failures_of(done, client):
    return [note for note in done.history.failures if note.client == client]


def test_what_a_client_says_of_its_failures_is_bounded_in_sum():
    clients = {"a": Complains("x" * 2000), "b": Complains("short"), "h": Honest()}
    done = run_locally(FedAvg(initial_parameters=START), clients, num_rounds=60)
    mine = failures_of(done, "a")
    assert len(mine) == 60
    assert sum(len(note.text) + len(note.detail) for note in mine) <= PER_CLIENT + 60 * ALWAYS
    assert mine[0].detail.startswith("Traceback")
    assert len(mine[-1].text) == ALWAYS
    assert mine[-1].text.endswith("x…")
    assert mine[-1].detail == ""
    assert all(note.text.startswith("fit raised ValueError: short") for note in failures_of(done, "b"))


def test_a_cohort_that_fails_shares_what_there_is_room_for_whatever_comes_first(monkeypatch):
    monkeypatch.setattr(bounds, "PER_RUN", 50_000)

    def client_fn(context):
        return Complains(f"{context.node_id} " + "x" * 1990)

    history = start_simulation(
        client_fn=client_fn,
        num_clients=50,
        config=ServerConfig(num_rounds=1),
        strategy=FedAvg(initial_parameters=START, fraction_evaluate=0.0),
        backend="inline",
        progress=False,
    )
    lengths = {len(note.text) + len(note.detail) for note in history.failures}
    assert lengths == {1000}


# ---- sizes


def test_what_no_model_says_the_size_of_has_half_of_the_disk(tmp_path):
    contents = FileContents(tmp_path)
    assert 0 < largest_update(contents, None) <= min(MOST, shutil.disk_usage(tmp_path).total // 2)
    assert largest_update(contents, 7) == 7
    assert largest_update(MemoryContents(), None) == MOST


@pytest.mark.parametrize(("max_bytes", "limits"), [(None, (True, True, False)), (16, (True, True, True))])
def test_a_limit_by_the_disk_is_for_what_has_no_schema(tmp_path, max_bytes, limits):
    """An update that fits the model is as large as the model, however full the disk is."""
    doors = []
    for receives in ("sum", "anything"):
        model = GlobalModel(FileContents(tmp_path), receives=receives, max_examples=1, max_bytes=max_bytes)
        model.write(0, START)
        if receives == "sum":
            doors.append(model.door(Task("t", 0, Kind.PARAMETERS, 0, 1, "a", None, {})))
        doors.append(model.door(Task("t", 1, Kind.FIT, 0, 1, "a", 0, {})))
    parameters, fits, own = doors
    assert tuple(door.max_bytes <= MOST for door in (parameters, own, fits)) == limits
