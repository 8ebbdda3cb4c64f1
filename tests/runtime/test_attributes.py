"""What a strategy of the user's own keeps in attributes is noticed when it changes, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from umbel.common import Code, FitRes, Status, ndarrays_to_parameters
from umbel.events import ExchangeClosed, RoundStarted
from umbel.runtime.attributes import Attributes
from umbel.server.strategy import FedAvg, FedAvgM

CLOSED = ExchangeClosed(
    at=0.0, round=1, kind="fit", results=2, failures=0, seconds=1.0, loss=None, metrics={}, void="", note=""
)


class Own(FedAvg):
    def __init__(self):
        super().__init__()
        self.best, self.seen, self.last = float("nan"), [], None
        self.counts, self.names, self.mean = {"a": 0}, {"a"}, np.zeros(3)
        self.model = SimpleNamespace(layers=[1, 2])
        self.callback = lambda: None


CHANGES = {
    "a number": ("best", lambda own: setattr(own, "best", 0.5)),
    "a list that grows": ("seen", lambda own: own.seen.append(1)),
    "an entry of a dict": ("counts", lambda own: own.counts.update(a=1)),
    "a set": ("names", lambda own: own.names.add("b")),
    "an array in place": ("mean", lambda own: own.mean.__iadd__(1)),
    "an object of the user's": ("model", lambda own: own.model.layers.append(3)),
    "another object": ("last", lambda own: setattr(own, "last", object())),
    "a new attribute": ("new", lambda own: setattr(own, "new", 1)),
    "one that goes": ("seen", lambda own: delattr(own, "seen")),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_an_attribute_that_changes_is_told_once(name, change):
    own, told = Own(), []
    attributes = Attributes(own, told.append)
    attributes.observe(CLOSED)
    assert told == []
    change(own)
    attributes.observe(RoundStarted(at=0.0, round=1, num_rounds=3))
    assert told == []
    attributes.observe(CLOSED)
    attributes.observe(CLOSED)
    assert told == [[name]]
    own.more = 1
    attributes.observe(CLOSED)
    assert told[-1] == sorted({name, "more"})


def test_parameters_that_are_given_once_and_umbel_s_own_strategies_are_no_memory():
    own, told = Own(), []
    attributes = Attributes(own, told.append)
    own.initial_parameters = None
    attributes.observe(CLOSED)
    plain = FedAvg()
    attributes = Attributes(plain, told.append)
    plain.fraction_fit = 0.5
    attributes.observe(CLOSED)
    assert told == []


def test_what_a_strategy_of_umbel_s_keeps_for_itself_is_not_the_user_s():
    class Steps(FedAvgM):
        pass

    own, told = Steps(server_momentum=0.5), []
    watching = Attributes(own, told.append)
    arrays = [np.ones(3, np.float32)]
    fitted = FitRes(Status(Code.OK), ndarrays_to_parameters(arrays), 1, {})
    own.aggregate_fit(1, [(SimpleNamespace(cid="a"), fitted)], [])[0].arrays()
    own.fraction_fit = 0.5
    own.algorithm()
    watching.observe(CLOSED)
    assert told == [["fraction_fit"]]
