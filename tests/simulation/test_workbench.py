"""One worker's own part: what becomes of an answer, however its arrays lie in memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from umbel.aggregators import mean
from umbel.door import Door
from umbel.optimizers import sgd
from umbel.params import Params
from umbel.rounds.messages import Failure, Kind, Reply
from umbel.runtime.transports.simulated.pieces import Asked, Piece, Work
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.training import NumPyClient

MODEL = Params.of([np.array([1.0, 2.0], "float32"), np.array([3.0, 4.0], "float32")])


def in_place(parameters):
    for array in parameters:
        array += 1
    return parameters


def swapped(parameters):
    return list(in_place(parameters))[::-1]  # a list that knows its names would be put in the model's order


def replaced(parameters):
    parameters[0] = parameters[0] + 1
    parameters[1] += 1
    return parameters


def reshaped(parameters):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of numpy 2.5, which still does it
        parameters[0].shape = (2, 1)
    return parameters


def not_finite(parameters):
    parameters[1][0] = np.inf
    return parameters


def done(fit):
    class Client(NumPyClient):
        def fit(self, parameters, config):
            return fit(parameters), 5, {}

    bench = Workbench(Work(lambda context: Client(), 1, 1, mean()), lambda name, schema, arrays: None)
    door = Door(Kind.FIT, MODEL.schema, 100, 1000)
    piece = Piece(0, Kind.FIT, (Asked(0, "0", 0, 1, {}),), {"model": "model"}, door, "sum")
    outcome = bench.do(piece, {"model": MODEL})
    assert [array.tolist() for array in MODEL.arrays()] == [[1, 2], [3, 4]]  # whatever clients do to what they were given
    return outcome


@pytest.mark.parametrize(
    ("fit", "found"),
    [
        (in_place, [[2, 3], [4, 5]]),
        (lambda parameters: in_place([array.copy() for array in parameters]), [[2, 3], [4, 5]]),
        (swapped, [[4, 5], [2, 3]]),
        (replaced, [[2, 3], [4, 5]]),
    ],
)
def test_an_update_is_folded_in_the_order_in_which_it_is_returned(fit, found):
    outcome = done(fit)
    norm = outcome.answers[0].norm
    assert outcome.answers == {0: Reply(5, 0.0, {}, None, "sum", norm=norm)}
    assert norm == pytest.approx(np.linalg.norm(np.subtract(found, [[1, 2], [3, 4]])))
    data = b"".join(bytes(block) for block in outcome.totals[0].blocks(None, sgd()))
    assert [array.tolist() for array in Params(MODEL.schema, np.frombuffer(data, np.uint8)).arrays()] == found


@pytest.mark.parametrize(("fit", "says"), [(reshaped, "array 0 with shape (2, 1)"), (not_finite, "array '1' contains inf")])
def test_what_was_done_in_place_is_checked_like_anything_else(fit, says):
    outcome = done(fit)
    failure = outcome.answers[0]
    assert isinstance(failure, Failure)
    assert says in failure.text
    assert not outcome.totals[0].updates
