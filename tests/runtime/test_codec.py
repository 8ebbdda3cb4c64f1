"""Inputs and states as bytes: each comes back as it was, and what a user's function returned can always be written."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.errors import StoreError
from umbel.rounds.messages import (
    Chosen,
    Evaluated,
    Failed,
    Failure,
    FailureKind,
    Initialized,
    Joined,
    Left,
    Member,
    Replied,
    Reply,
    Resumed,
    Started,
    Stepped,
    Stopped,
    Summarized,
    Ticked,
)
from umbel.runtime.stores.codec import decode_input, decode_state, encode, writable

CONFIG = {"lr": 0.5, "epochs": 3, "big": 2**63, "site": "Köln", "on": True, "raw": b"\x00\xff"}


@pytest.mark.parametrize(
    "event",
    [
        Started(),
        Resumed(5),
        Joined("a"),
        Left("a", "killed"),
        Initialized(True),
        Chosen((Member("a", CONFIG), Member("b", {}, "own-1"))),
        Chosen(needs=3),
        Replied("run.1.fit.0.0", Reply(3, 0.5, CONFIG, "content")),
        Failed("run.1.fit.0.0", Failure(FailureKind.REJECTED, "no", "Traceback")),
        Ticked(),
        Stepped(3, {"a": 0.5, "nested": {"x": [1, 2]}}, "note"),
        Evaluated(None, {}),
        Evaluated(0.5, {"a": 1}),
        Summarized("a loss in words", {"a": None}),
        Stopped("Ctrl-C"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_input_comes_back_as_it_was(event):
    back = decode_input(type(event).__name__, encode(event))
    assert back == event
    assert type(back) is type(event)


scalars = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(), scalars, max_size=4), st.integers(0, 2**63), st.floats(allow_nan=False))
def test_a_reply_comes_back_with_whatever_metrics(metrics, count, loss):
    event = Replied("task", Reply(count, loss, metrics, None))
    try:
        body = encode(event)
    except UnicodeEncodeError:
        return
    back = decode_input("Replied", body)
    assert back == event
    assert {name: type(value) for name, value in back.reply.metrics.items()} == {n: type(v) for n, v in metrics.items()}


def test_numpy_values_of_a_metrics_function_are_written_as_numbers():
    event = Evaluated(np.float32(0.5), {"matrix": np.eye(2), "n": np.int64(3), "ok": np.bool_(True)})
    assert decode_input("Evaluated", encode(event)) == Evaluated(0.5, {"matrix": [[1, 0], [0, 1]], "n": 3, "ok": True})


def circle():
    inside: list[object] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    "odd", [2**70, "\udce9", {("a", "b"): {1: 2}}, {1, 2}, 1 + 2j, object, circle(), np.datetime64("2020-01-01"), math.nan],
    ids=lambda value: type(value).__name__,
)
def test_anything_that_a_metrics_function_returns_can_be_written(odd):
    event = Evaluated(writable(odd), {"odd": writable(odd)})
    assert isinstance(decode_input("Evaluated", encode(event)), Evaluated)


@pytest.mark.parametrize("number", [np.float32(0.1), np.float16(0.1), np.int64(3), np.array(0.1, "float32")])
def test_a_number_is_journaled_as_the_run_goes_by_it(number):
    event = Evaluated(writable(number), {"a": writable(number)})
    assert type(event.loss) in (int, float)
    assert decode_input("Evaluated", encode(event)) == event


@pytest.mark.parametrize(("kind", "body"), [("Pickled", b"\x80"), ("Joined", b"\xc1"), ("Joined", encode({"client": 3}))])
def test_a_row_that_was_not_written_here_is_a_store_error(kind, body):
    with pytest.raises(StoreError, match=f"a journal row of type {kind!r} cannot be read"):
        decode_input(kind, body)


@pytest.mark.parametrize("body", [b"", b"\xc1", encode({"num_rounds": "three"}), msgspec.msgpack.encode([1])])
def test_a_snapshot_that_was_not_written_here_is_a_store_error(body):
    with pytest.raises(StoreError, match="a snapshot cannot be read"):
        decode_state(body)
