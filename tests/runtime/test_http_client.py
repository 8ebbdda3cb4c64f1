"""What a client makes of what its server says, with a server that says it at a given moment."""

from __future__ import annotations

import threading

from umbel.rounds.messages import Kind
from umbel.runtime.transports.http.client import Patience, serve
from umbel.runtime.transports.http.link import Unknown
from umbel.runtime.transports.http.protocol import Next, TaskHead
from umbel.training import NumPyClient


class Evaluates(NumPyClient):
    def evaluate(self, parameters, config):
        return 0.5, 1, {}


class Forgetful:
    """A server, seen through its link, that has forgotten the session of whoever answers, and then ends the run."""

    name, signs = "a", False

    def __init__(self) -> None:
        self.answered, self.asked = threading.Event(), 0
        self.left = False

    def register(self) -> None:
        pass

    def next(self, have) -> Next:
        self.asked += 1
        if self.asked == 1:
            return Next([head(1)], [], None)
        assert self.answered.wait(10)
        return Next([head(2)], [], "all rounds done")

    def offer(self, task, offer):
        self.answered.set()
        raise Unknown("unknown session; register again")

    def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        pass


def head(number: int) -> TaskHead:
    return TaskHead(f"run.{number}.evaluate.0.0", Kind.EVALUATE, number, {}, None)


def test_a_client_whose_answer_is_under_way_when_the_run_ends_ends_well_whatever_it_was_to_do_next():
    server = Forgetful()
    assert serve(server, Evaluates().to_client(), Patience("here", None, None)) == "all rounds done"
    assert server.left
