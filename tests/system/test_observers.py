"""What observers are told over the network, also by servers that end or are killed, and of clients in processes."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from federations import wait_for

import umbel as fl
from umbel.events import RunEnded, TaskAnswered
from umbel.simulation import start_simulation

pytestmark = pytest.mark.system


def test_servers_that_go_on_tell_nothing_twice_but_what_they_send_twice(federation):
    file = federation.folder / "events.jsonl"
    file.touch()

    def told():
        *lines, _ = file.read_text().split("\n")  # the last may be half of one
        return [json.loads(line) for line in lines]

    def has_told(number, event, **values):
        """Waits until so many of these have been told: a process that is killed may not have told its last ones."""

        def found():
            return [e for e in told() if e["event"] == event and values.items() <= e.items()]

        wait_for(lambda: len(found()) == number, 40, f"{number} of {event} {values} are told")

    options = {"watch": "events.jsonl", "hold": ["central.2"]}
    first = federation.server(**options)
    clients = federation.clients("a", "b", hold=["evaluate.2"])
    federation.reached("server", "central.2")
    first.terminate()
    assert first.ends() == 143
    before = told()
    assert (before[0]["event"], before[0]["num_rounds"]) == ("RunStarted", 3)
    assert (before[-1]["event"], before[-1]["why"]) == ("RunInterrupted", "SIGTERM")
    federation.open("server", "central.2")

    second = federation.server(**options)
    federation.reached("a", "evaluate.2")
    has_told(2, "TaskSent", kind="evaluate", round=2)
    second.kill()  # while both evaluate, and nothing else happens
    between = told()[len(before) :]
    for name in "ab":
        federation.open(name, "evaluate.2")
    third = federation.server(**options)
    assert third.ends() == 0
    assert [client.ends() for client in clients] == [0, 0]

    after = told()[len(before) + len(between) :]
    for part in (between, after):
        assert (part[0]["event"], part[0]["round"], part[0]["run"]) == ("RunResumed", 2, before[0]["run"])
    everything = before + between + after
    closed = [event for event in everything if event["event"] == "RoundClosed"]
    assert [event["round"] for event in closed] == [1, 2, 3]
    history = federation.history()
    assert [[event["round"], event["loss"]] for event in closed] == history["losses_distributed"]
    assert [[event["round"], event["central_loss"]] for event in closed] == history["losses_centralized"][1:]
    assert [event["version"] for event in everything if event["event"] == "VersionMade"] == [0, 1, 2, 3]
    assert [event["event"] for event in everything].count("RunEnded") == 1
    assert (everything[-1]["event"], everything[-1]["status"]) == ("RunEnded", "finished")

    answered = Counter(event["task"] for event in everything if event["event"] == "TaskAnswered")
    assert set(answered.values()) == {1}
    assert len(answered) == 3 * 2 * 2
    sent = Counter((event["task"], event["again"]) for event in everything if event["event"] == "TaskSent")
    assert {task for task, again in sent if not again} == set(answered)
    assert max(sent[task, False] for task in answered) == 1
    assert {task.split(".")[1:3][1] for task, again in sent if again} == {"evaluate"}
    one = next(event for event in everything if event["event"] == "TaskAnswered" and event["kind"] == "fit")
    size = next(event["bytes"] for event in everything if event["event"] == "VersionMade")
    assert (one["bytes"], one["version"]) == (size, 0)
    assert 0 < one["seconds"] < 60
    assert [event["at"] for event in everything] == sorted(event["at"] for event in everything)


class Adds(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(4, "float32")]

    def fit(self, parameters, config):
        return [parameters[0] + 1], 10, {"error": 0.5}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 10, {}


def test_clients_in_processes_are_told_as_those_inline_are():
    def told(**backend):
        seen = []
        config = fl.server.ServerConfig(num_rounds=2)
        start_simulation(client_fn=lambda context: Adds(), num_clients=5, config=config, observers=[seen.append], **backend)
        assert isinstance(seen[-1], RunEnded)
        answers = [event for event in seen if isinstance(event, TaskAnswered)]
        return Counter(type(event) for event in seen), {
            (a.task, a.version, a.bytes, a.num_examples, a.loss, *a.metrics.items()) for a in answers
        }

    assert told(backend="processes", workers=2) == told(backend="inline")
