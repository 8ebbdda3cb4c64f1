"""One pass over a round's contents: blocks, layouts and neighbours make no difference to the result."""

from __future__ import annotations

from itertools import permutations

import ml_dtypes
import numpy as np
import pytest

from umbel.aggregators import chunk_size, mean
from umbel.fold import Contribution, combine, in_memory, stepped_schema
from umbel.fold.blocks import BLOCK, find_stretches
from umbel.optimizers import Optimizer, sgd
from umbel.params import Params
from umbel.server.strategy.aggregate import aggregate, weighted_loss_avg
from umbel.wire import Schema


def contributions(updates, weights=None):
    weights = weights or [1] * len(updates)
    return [Contribution(i, p.schema, in_memory(p), w) for i, (p, w) in enumerate(zip(updates, weights, strict=True))]


def combined(model, updates, weights=None, *, optimizer=None, finish=None):
    """The next version as `Params`."""
    schema = stepped_schema(model.schema, [update.schema for update in updates])
    blocks = combine(
        schema,
        (model.schema, in_memory(model)),
        contributions(updates, weights),
        aggregator=mean(),
        optimizer=optimizer or sgd(),
        chunk=chunk_size(len(updates)),
        finish=finish,
    )
    return Params(schema, np.frombuffer(b"".join(bytes(block) for block in blocks), np.uint8))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_block_boundaries_do_not_show(size, dtype):
    rng = np.random.RandomState(size % 1000)
    blocks = [rng.randint(0, 2, size).astype(dtype) for _ in range(3)]
    result = combined(Params.of([blocks[0]]), [Params.of([block]) for block in blocks], [1, 2, 4])
    total = sum(weight * block.astype("int64") for weight, block in zip([1, 2, 4], blocks, strict=True))
    expected = (total / 7).astype("float32") if dtype == "float32" else total > 3.5
    assert np.array_equal(result.arrays()[0], expected.astype(dtype))


def test_several_large_tensors_stay_apart():
    sizes = [BLOCK - 5, 7, 0, BLOCK + 1, 3]
    arrays = [np.arange(size, dtype="float32") + 1000 * i for i, size in enumerate(sizes)]
    result = combined(Params.of(arrays), [Params.of(arrays), Params.of([a + 2 for a in arrays])])
    assert all(np.array_equal(got, a + 1) for got, a in zip(result.arrays(), arrays, strict=True))


def test_replies_in_other_dtypes_lie_elsewhere_and_are_found():
    model = Params.of([np.zeros(3, "float32"), np.zeros(2, "float64"), np.zeros(2, "int8"), np.array([True, False])])
    yes, one = np.array([True, True]), np.array([1, 0])
    first = Params.of([np.full(3, 2.0, "float64"), np.full(2, 4.0, "float16"), np.full(2, 5, "int64"), yes])
    second = Params.of([np.full(3, 4, "uint8"), np.full(2, 6.0), np.full(2, 7, "int8"), one])
    result = combined(model, [first, second])
    assert [a.tolist() for a in result.arrays()] == [[3.0] * 3, [5.0] * 2, [6] * 2, [True, False]]
    assert result.schema == model.schema


def test_integers_that_every_reply_answers_with_floats_become_float64():
    model = Params.of([np.array([1, 2]), np.zeros(2, "float32")])
    floats = Params.of([np.array([1.5, 2.5], "float32"), np.zeros(2, "float32")])
    result = combined(model, [floats, floats])
    assert [(a.dtype.name, a.tolist()) for a in result.arrays()] == [("float64", [1.5, 2.5]), ("float32", [0, 0])]


def test_integers_that_some_reply_answers_with_floats_become_float64():
    model = Params.of([np.array([1, 2], "int16"), np.array([True, False])])
    floats, integers = [np.array([1.5, 2.5]), np.array([0.5, 0.5])], [np.array([2, 2], "int16"), np.array([True, False])]
    result = combined(model, [Params.of(floats), Params.of(integers)])
    assert [(a.dtype.name, a.tolist()) for a in result.arrays()] == [("float64", [1.75, 2.25]), ("float64", [0.75, 0.25])]


@pytest.mark.parametrize("short", ["float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2fnuz])
@pytest.mark.parametrize("answer", ["float32", "float64"])
def test_short_floats_that_are_answered_with_longer_ones_become_float32(short, answer):
    model = Params.of([np.ones(2, short), np.ones(2, short)])
    longer = [np.array([1.001, 1.002], answer), np.ones(2, short)]
    result = combined(model, [Params.of(longer), Params.of(model.arrays())])
    assert [a.dtype.name for a in result.arrays()] == ["float32", np.dtype(short).name]
    assert np.allclose(result.arrays()[0], [1.0005, 1.001], rtol=1e-7)


def test_float32_stays_whatever_answers():
    schema = Params.of([np.ones(2, "float32")]).schema
    assert stepped_schema(schema, [Params.of([np.ones(2)]).schema]) == schema


def test_the_schema_stays_the_model_s_without_updates():
    schema = Params.of([np.array([1, 2])]).schema
    assert stepped_schema(schema, []) == schema


def test_neighbours_of_one_dtype_are_read_as_one():
    arrays = [np.zeros(4, "float32"), np.zeros(2, "float64"), np.zeros((2, 3), "float32"), np.zeros(0, "float32")]
    model = Params.of(arrays)
    runs = list(find_stretches(model.schema, model.schema, [model.schema, Params.of(arrays).schema]))
    assert [(run.dtype, run.size) for run in runs] == [("F64", 2), ("F32", 10)]


def test_neighbours_that_one_reply_keeps_apart_are_read_apart():
    model = Params.of([np.zeros(4, "float32"), np.zeros(6, "float32")])
    other = Params.of([np.zeros(4, "float32"), np.zeros(6, "float64")])
    runs = list(find_stretches(model.schema, None, [model.schema, other.schema]))
    assert [(run.dtype, run.size) for run in runs] == [("F32", 4), ("F32", 6)]


def test_the_order_of_arrival_does_not_change_a_bit():
    rng = np.random.RandomState(1)
    arrays = [rng.standard_normal(100).astype("float32") for _ in range(4)]
    everything = contributions([Params.of([a]) for a in arrays], [3, 5, 7, 11])
    model = Params.of([arrays[0]])
    results = set()
    for arrived in permutations(everything):
        in_task_order = sorted(arrived, key=lambda contribution: contribution.task)
        blocks = combine(
            model.schema, None, in_task_order, aggregator=mean(), optimizer=sgd(), chunk=1
        )
        results.add(b"".join(bytes(block) for block in blocks))
    assert len(results) == 1


def test_the_optimizer_sees_the_version_that_the_clients_started_from():
    model = Params.of([np.array([1.0, 2.0], "float32"), np.array([10], "int64")])
    update = Params.of([np.array([3.0, 6.0], "float32"), np.array([20], "int64")])
    result = combined(model, [update], optimizer=sgd(0.5))
    assert [a.tolist() for a in result.arrays()] == [[2.0, 4.0], [20]]


def test_the_optimizer_never_sees_integers():
    def step(base, new):
        raise AssertionError("called")

    model = Params.of([np.array([10], "int64"), np.array([True])])
    assert combined(model, [model], optimizer=Optimizer(step)).arrays()[0].tolist() == [10]


def test_what_transforms_finish_is_the_mean_difference_by_the_place_of_its_coordinates():
    model = Params.of([np.full(BLOCK + 2, 5.0), np.array([3]), np.full(2, 7.0)])
    update = Params.of([np.full(BLOCK + 2, 6.0), np.array([4]), np.full(2, 9.0)])
    finish = lambda block, start: block * 10 + start + np.arange(block.size)  # noqa: E731
    after = combined(model, [update], finish=finish).arrays()
    assert np.array_equal(after[0], 15 + np.arange(BLOCK + 2))
    assert after[1].tolist() == [4]
    assert after[2].tolist() == [7 + 20 + BLOCK + 2, 7 + 20 + BLOCK + 3]


def test_an_empty_model_makes_an_empty_model():
    empty = Params(Schema(()), np.empty(0, np.uint8))
    assert combined(empty, [empty, empty]).arrays() == []


# ---- the classic functions on lists of arrays


def test_aggregate_averages_by_weight_and_leaves_its_arguments_alone():
    one, two = [np.array([[1.0, 2.0]]), np.array(3)], [np.array([[5.0, 6.0]]), np.array(7)]
    assert [a.tolist() for a in aggregate([(one, 1), (two, 3)])] == [[[4.0, 5.0]], 6]
    assert one[0].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [([np.zeros(3)], 1), ([np.zeros(4)], 1)],
        [([np.zeros((4, 3))], 1), ([np.zeros((1, 3))], 1)],
        [([np.zeros(3)], 1), ([np.zeros(3), np.zeros(3)], 1)],
        [([np.zeros(3)], 0), ([np.zeros(3)], 0)],
    ],
    ids=["nothing", "lengths", "broadcastable", "number of arrays", "no weight"],
)
def test_aggregate_refuses_what_has_no_mean(results):
    with pytest.raises(ValueError, match="mean"):
        aggregate(results)


def test_losses_are_averaged_by_weight():
    assert weighted_loss_avg([(1, 1.0), (3, 2.0)]) == 1.75
