"""The door: what is refused, with which words, and what is accepted as people send it.

A refusal names the thing, the value, the rule and the remedy.
"""

from __future__ import annotations

import math
from itertools import pairwise

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.door import Door, ValueCheck
from umbel.errors import Rejected
from umbel.params import Params, schema_of
from umbel.reports import Room
from umbel.rounds.messages import Kind, Reply
from umbel.wire import Schema

MODEL = schema_of([np.zeros((4, 3), "float32"), np.zeros(3, "float32"), np.zeros((), "int64")])
NONE = Schema(())


def door(kind=Kind.FIT, schema=MODEL, max_examples=10**9, max_bytes=10**6):
    return Door(kind, schema, max_examples, max_bytes)


def refusal(function, *arguments) -> str:
    with pytest.raises(Rejected) as refused:
        function(*arguments)
    return str(refused.value)


def arrays(first=(4, 3), second=(3,), third=()):
    return [np.zeros(shape, "float32") for shape in (first, second, third)]


# ---- schema


def test_what_fits_is_admitted():
    door().admit(Reply(10), MODEL)
    door().admit(Reply(0), schema_of([a.astype("float64") for a in arrays()]))


def test_a_missing_array_is_named_with_its_shape():
    assert refusal(door().admit, Reply(10), schema_of(arrays()[:2])) == (
        "fit() returned 2 arrays, the model has 3 (missing '2', shape ()). Return every array, in get_parameters order."
    )


def test_an_array_too_many_is_named_with_its_shape():
    assert refusal(door().admit, Reply(10), schema_of([*arrays(), np.zeros(7)])) == (
        "fit() returned 4 arrays, the model has 3 (unexpected '3', shape (7,)). "
        "Return every array, in get_parameters order."
    )


def test_no_arrays_are_not_a_model():
    assert refusal(door().admit, Reply(10), NONE).startswith("fit() returned 0 arrays, the model has 3")


def test_arrays_in_another_order_are_refused_by_name():
    model = schema_of([np.zeros(3), np.zeros(3)], ["weight", "bias"])
    swapped = schema_of([np.zeros(3), np.zeros(3)], ["bias", "weight"])
    assert refusal(door(schema=model).admit, Reply(10), swapped) == (
        "fit() returned 'bias' as array 0, where the model has 'weight'. Return every array, in get_parameters order."
    )


@pytest.mark.parametrize("shape", [(1, 3), (3,), (), (3, 4), (12,), (4, 3, 1), (1, 4, 3), (4, 1), (5, 3), (0, 3)])
def test_another_shape_is_refused_even_if_numpy_would_broadcast_it(shape):
    text = refusal(door().admit, Reply(10), schema_of(arrays(first=shape)))
    assert text == (
        f"fit() returned array 0 with shape {shape}, the model has (4, 3) there. "
        "Return every array, in get_parameters order and with its own shape."
    )


def test_more_bytes_than_the_server_takes_are_refused():
    assert refusal(door(max_bytes=10).admit, Reply(10), MODEL) == (
        "fit() returned 68 bytes of parameters; the limit is 10"
    )


def test_parameters_to_start_from_must_be_there():
    first = door(Kind.PARAMETERS, None)
    first.admit(Reply(), MODEL)
    assert "get_parameters() returned no arrays; implement it" in refusal(first.admit, Reply(), NONE)


def test_an_evaluation_has_no_parameters():
    evaluation = door(Kind.EVALUATE, None)
    evaluation.admit(Reply(10, 0.5, {"accuracy": 1}), NONE)
    assert refusal(evaluation.admit, Reply(10), MODEL) == "evaluate() does not take parameters, got 3 arrays"


def test_a_strategy_that_combines_by_itself_gets_any_shapes_within_the_limit():
    free = door(schema=None, max_bytes=100)
    free.admit(Reply(1), schema_of([np.zeros((7, 1))]))
    assert free.value_check(schema_of([np.zeros(1)])) is None
    assert "the limit is 100" in refusal(free.admit, Reply(1), schema_of([np.zeros(1000)]))


def test_where_nothing_is_said_of_updates_what_is_not_like_the_model_is_taken_and_noted():
    lenient = door(max_bytes=100)
    lenient = msgspec.structs.replace(lenient, refuses=False)
    assert lenient.admit(Reply(10), MODEL) == Reply(10)
    fewer = schema_of(arrays()[:2])
    noted = lenient.admit(Reply(10), fewer)
    assert noted == Reply(10, unfit=refusal(door().admit, Reply(10), fewer))
    assert lenient.value_check(fewer) is None
    assert "the limit is 100 (the server's max_bytes=" in refusal(lenient.admit, Reply(1), schema_of([np.zeros(1000)]))
    assert "num_examples=-1" in refusal(lenient.admit, Reply(-1), fewer)


def test_values_that_do_not_travel_are_noted_where_they_are_not_refused():
    params = Params.of([np.zeros((4, 3), "float32"), np.array([0, np.nan, np.inf], "float32"), np.zeros((), "int64")])
    check = msgspec.structs.replace(door(), refuses=False).value_check(params.schema)
    check.feed(0, params.buffer.data)
    assert check.note(Reply(10)) == Reply(10, unfit=refusal(feed_all, params))
    sound = msgspec.structs.replace(door(), refuses=False).value_check(MODEL)
    sound.feed(0, bytes(MODEL.nbytes))
    assert sound.note(Reply(10)) == Reply(10)


def feed_all(params):
    door().value_check(params.schema).feed(0, params.buffer.data)


def test_a_name_of_a_megabyte_does_not_come_back_in_the_refusal():
    long = schema_of(arrays(), ["w" * 2**20, "1", "2"])
    assert len(refusal(door().admit, Reply(10), long)) < 400


# ---- numbers


@pytest.mark.parametrize("count", [-1, -15, 10**9 + 1, 10**12, 2**70])
def test_an_impossible_number_of_examples_is_refused(count):
    assert refusal(door().admit, Reply(count), MODEL) == (
        f"fit() returned num_examples={count}; it must be from 0 to 1,000,000,000 (the server's max_examples)"
    )


def test_the_largest_number_of_examples_is_settable():
    door(max_examples=5).admit(Reply(5), MODEL)
    assert "from 0 to 5 " in refusal(door(max_examples=5).admit, Reply(6), MODEL)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_or_a_metric_that_is_not_finite_is_the_strategy_s_affair(number):
    door(Kind.EVALUATE, None).admit(Reply(1, number, {"accuracy": number}), NONE)
    door().admit(Reply(1, 0.0, {"accuracy": number}), MODEL)
    assert str(door().metrics({"accuracy": number, "f1": 0.5})) == str({"accuracy": number, "f1": 0.5})


@pytest.mark.parametrize(
    ("metrics", "room", "taken"),
    [
        ({f"m{i}": 1.0 for i in range(1001)}, Room(), [f"m{i}" for i in range(1000)]),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, Room(metrics=2), ["a", "b"]),
        ({"mask": bytes(2**20), "accuracy": 0.5}, Room(), ["accuracy"]),
        ({"text": "ü" * 2**19, "accuracy": 0.5}, Room(), ["accuracy"]),  # as it travels, not as it is counted
        ({"mask": bytes(2**20), "accuracy": 0.5}, Room(size=2**21), ["mask", "accuracy"]),
        ({f"{i:03}".ljust(1000, "x"): 1.0 for i in range(999)}, Room(), [f"{i:03}".ljust(1000, "x") for i in range(64)]),
        ({"a": 1.0}, Room(metrics=0), []),
    ],
    ids=["too many", "more than two", "too large", "too large in its own letters", "room was made", "long names", "none"],
)
def test_of_more_metrics_than_there_is_room_for_the_first_that_fit_are_taken(metrics, room, taken):
    assert [*Door(Kind.FIT, MODEL, 10**9, 10**6, room).metrics(metrics)] == taken
    for _ in range(2):
        metrics = room.take(metrics)
        assert [*metrics] == taken
    assert len(msgspec.msgpack.encode(metrics)) <= room.encoded


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"confusion": [1, 2]}, "'confusion' is of type list"),
        ({"a": None}, "'a' is of type NoneType"),
        ({"a": {"b": 1}}, "'a' is of type dict"),
        ({1: 0.5}, "1 is of type float; names are str"),
        ({"a": 2**64}, "has more than 64 bits; send a float"),
        ({"a": -(2**63) - 1}, "has more than 64 bits; send a float"),
        ({"file": "caf\udce9"}, "is not Unicode text; send bytes"),
        ({"\ud800": 1}, "is not Unicode text"),
        ([("a", 1)], "a dict is needed, {} for none; got list"),
    ],
)
def test_metrics_that_cannot_travel_are_named(metrics, words):
    text = refusal(door().admit, Reply(1, 0.0, metrics), MODEL)
    assert text.startswith("fit() returned metrics that cannot travel: ")
    assert words in text


# ---- values


def check(given, model):
    """Feeds the array that came for an array of the model."""
    params = Params.of([given])
    ValueCheck(params.schema, schema_of([np.asarray(model)])).feed(0, params.buffer.data)


FLOATS = ["float16", "float32", "float64", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("position", [0, 5, 9])
def test_nan_is_refused_in_every_dtype_and_place(dtype, position):
    array = np.ones(10, dtype)
    array[position] = np.nan
    for model in (array, np.zeros(10), np.zeros(10, "int8"), np.zeros(10, "bool")):
        assert refusal(check, array, model) == (
            "array '0' contains nan; only finite values travel. Check the data and the learning rate."
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_refused(dtype, value):
    array = np.ones(10, dtype)
    array[3] = value
    assert f"contains {value}; only finite values travel" in refusal(check, array, array)


@pytest.mark.parametrize(
    ("value", "given", "model"),
    [
        (1e39, "float64", "float32"),
        (-1e39, "float64", "float32"),
        (1e39, "float64", "float16"),
        (1e300, "float64", ml_dtypes.bfloat16),
        (1e5, "int64", "float16"),
        (1e291, "float64", "float64"),
        (128, "int64", "int8"),
        (-1, "int64", "uint8"),
        (2**63, "uint64", "int64"),
        (256, "int16", "uint8"),
    ],
)
def test_a_value_beyond_the_model_s_dtype_is_refused(value, given, model):
    text = refusal(check, np.array([0, value], given), np.zeros(2, model))
    assert text.startswith("array '0' contains ")
    assert "the model's dtype there ends at " in text


@pytest.mark.parametrize(
    ("value", "given", "model"),
    [
        (3.4028234663852886e38, "float64", "float32"),
        (65504, "int32", "float16"),
        (1e38, "float32", "float16"),
        (1e38, "float64", ml_dtypes.bfloat16),
        (1e290, "float64", "float64"),
        (127, "int64", "int8"),
        (2**64 - 1, "uint64", "uint64"),
        (2**63 - 1, "uint64", "int64"),
        (1e30, "float32", "int8"),
        (7, "int8", "bool"),
        (True, "bool", "float32"),
        (True, "bool", "int8"),
    ],
)
def test_a_value_within_the_model_s_dtype_is_accepted(value, given, model):
    check(np.array([0, value], given), np.zeros(2, model))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_values_in_pieces_are_checked_as_at_once(data):
    dtypes = ["float64", "float32", "float16", "int64", "int8", "bool"]
    shapes = data.draw(st.lists(st.tuples(st.sampled_from(dtypes), st.integers(0, 9)), min_size=1, max_size=5))
    model = [np.ones(size, dtype) for dtype, size in shapes]
    params = Params.of(model)
    floats = [view for view in params.arrays() if view.dtype.kind == "f" and view.size]
    spoilt = bool(floats) and data.draw(st.booleans())
    if spoilt:
        view = data.draw(st.sampled_from(floats))
        view[data.draw(st.integers(0, view.size - 1))] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    cuts = data.draw(st.lists(st.integers(0, params.schema.nbytes // 8), max_size=4))
    marks = sorted({0, *(8 * cut for cut in cuts), params.schema.nbytes})

    def feed(edges):
        checking = ValueCheck(params.schema, schema_of(model))
        for begin, end in pairwise(edges):
            checking.feed(begin, params.buffer.data[begin:end])

    if spoilt:
        assert refusal(feed, marks) == refusal(feed, [0, params.schema.nbytes])
    else:
        feed(marks)
