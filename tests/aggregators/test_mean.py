"""The ordered mean, checked by hand, against fractions, and against every order of arrival."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.aggregators import chunk_size, fold, mean

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def average(updates, dtype, *, chunk=1):
    """The mean of `(array, weight)`, numbered from 0."""
    return fold(mean(), np.dtype(dtype), ((i, np.asarray(a), w) for i, (a, w) in enumerate(updates)), chunk=chunk)


def bits(array):
    return array.dtype, array.tobytes()


# ---- by hand


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BFLOAT16])
def test_a_weighted_mean_by_hand(dtype):
    updates = [(np.array([0.0, 1.0], dtype), 1), (np.array([4.0, 5.0], dtype), 3)]
    result = average(updates, dtype)
    assert result.dtype == np.dtype(dtype)
    assert result.astype(float).tolist() == [3.0, 4.0]


def test_integers_are_rounded_half_to_even():
    updates = [([0, 1, 2, 3, -1, -3], 1), ([1, 2, 3, 4, 0, -2], 1)]
    assert average(updates, "int32").tolist() == [0, 2, 2, 4, 0, -2]


def test_booleans_are_decided_by_weighted_majority_and_a_tie_is_false():
    updates = [([True, True, False, True], 1), ([True, False, False, False], 1), ([True, False, True, True], 2)]
    updates = [(np.array(votes), weight) for votes, weight in updates]
    assert average(updates, "bool").tolist() == [True, False, False, True]


def test_a_client_that_answers_1000_for_true_has_one_vote():
    assert average([(np.array([1000]), 1), (np.array([0]), 2)], "bool").tolist() == [False]


def test_a_model_of_integers_takes_the_rounded_mean_of_floats_within_its_range():
    updates = [(np.array([0.4, 1e300, -7.5]), 1), (np.array([1.0, 0.0, 0.0]), 1)]
    assert average(updates, "int8").tolist() == [1, 127, -4]
    assert average([(np.array([1e300, -1e300]), 1)], "int64").tolist() == [2**63 - 1, -(2**63)]
    assert average([(np.array([1e300, -1e300]), 1)], "uint64").tolist() == [2**64 - 1, 0]


def test_replies_of_different_types_meet_in_the_model_s():
    updates = [
        (np.array([1.0], "float16"), 1),
        (np.array([2.0], "float64"), 1),
        (np.array([3], "int64"), 1),
        (np.array([4.0], BFLOAT16), 1),
        (np.array([True]), 1),
    ]
    assert average(updates, "float32").tolist() == [np.float32(11 / 5)]
    assert average([(np.array([2]), 1), (np.array([3.5]), 1)], "int32").tolist() == [3]


def test_a_client_with_weight_0_changes_nothing():
    others = [(np.array([0.1, 0.2], "float32"), 3), (np.array([0.7, 0.9], "float32"), 4)]
    silent = (np.array([3e38, -3e38], "float32"), 0)
    for position in range(3):
        with_it = [*others[:position], silent, *others[position:]]
        assert bits(average(with_it, "float32")) == bits(average(others, "float32"))


def test_weights_that_are_all_0_have_no_mean():
    for dtype in ("float32", "int64", "bool"):
        with pytest.raises(ValueError, match="every num_examples is 0"):
            average([(np.zeros(2, dtype), 0), (np.ones(2, dtype), 0)], dtype)


def test_fractional_weights_work_for_integers_too():
    assert average([(np.array([10]), 0.5), (np.array([20]), 1.5)], "int64").tolist() == [18]  # 17.5: half to even


def test_arguments_are_not_changed():
    for dtype in ("float64", "int64", "bool"):
        blocks = [np.ones(3, dtype), np.ones(3, dtype)]
        average([(block, 2) for block in blocks], dtype)
        assert all(block.tolist() == [1, 1, 1] for block in blocks)


# ---- precision


def test_float16_is_not_summed_in_float16():
    updates = [(np.array([60000.0, 0.1], "float16"), 1000) for _ in range(100)]
    assert bits(average(updates, "float16")) == bits(updates[0][0])


def test_a_hundred_thousand_clients_lose_no_digit():
    block = np.array([0.1], "float32")
    result = average(((block, 1) for _ in range(100_000)), "float32", chunk=chunk_size(100_000))
    assert bits(result) == bits(block)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([np.dtype("float16"), np.dtype("float32"), BFLOAT16]),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 10**9),
)
def test_a_single_client_gets_its_own_model_back(dtype, data, weight):
    block = np.frombuffer(data, np.uint8).view(dtype)
    block = block[np.isfinite(block.astype(np.float32))]
    assert bits(average([(block, weight)], dtype)) == bits(block)


int64s = st.integers(-(2**63), 2**63 - 1)
uint64s = st.integers(0, 2**64 - 1)


def exactly(values, weights):
    return round(Fraction(sum(v * w for v, w in zip(values, weights, strict=True)), sum(weights)))


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["int64", "uint64"]), st.integers(1, 6))
def test_integers_average_exactly_whatever_their_size(data, dtype, clients):
    near = {"int64": [-(2**63), 2**63 - 1, 0, -1], "uint64": [0, 2**64 - 1, 2**63, 1]}[dtype]
    number = st.sampled_from(near) | (int64s if dtype == "int64" else uint64s) | st.integers(0, 3)
    weight = st.integers(0, 5) | st.integers(0, 10**9) | st.just(2**62)
    values = data.draw(st.lists(number, min_size=clients, max_size=clients))
    weights = data.draw(st.lists(weight, min_size=clients, max_size=clients).filter(any))
    chunk = data.draw(st.integers(1, clients))
    result = average([(np.array([v], dtype), w) for v, w in zip(values, weights, strict=True)], dtype, chunk=chunk)
    assert (result.dtype, result.tolist()) == (np.dtype(dtype), [exactly(values, weights)])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_the_ends_of_every_integer_type_are_kept(dtype):
    limits = np.iinfo(dtype)
    block = np.array([limits.min, limits.max], dtype)
    assert bits(average([(block, 10**9)] * 3, dtype)) == bits(block)


# ---- order


def cohort(size, dtype="float32", seed=0):
    rng = np.random.RandomState(seed)
    return [(rng.standard_normal(50).astype(dtype), int(rng.randint(1, 1000))) for _ in range(size)]


@pytest.mark.parametrize("size", [1, 3, 64, 65, 130, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_chunks_folded_apart_and_merged_in_order_give_the_same_bits(size, dtype):
    updates, chunk, aggregator = cohort(size, dtype), chunk_size(size), mean()
    parts = []
    for begin in reversed(range(0, size, chunk)):  # a worker takes any chunk at any time
        acc = aggregator.init(np.dtype(dtype))
        for block, weight in updates[begin : begin + chunk]:
            acc = aggregator.add(acc, block, weight)
        parts.insert(0, acc)
    total = parts[0]
    for part in parts[1:]:
        total = aggregator.merge(total, part)
    assert bits(aggregator.finish(total, np.dtype(dtype))) == bits(average(updates, dtype, chunk=chunk))


def test_order_does_matter_to_floating_point_sums_so_it_is_fixed():
    updates = cohort(100, "float64")
    assert bits(average(updates, "float64", chunk=2)) != bits(average(updates[::-1], "float64", chunk=2))


def test_a_missing_task_does_not_shift_the_chunks_of_the_others():
    updates = cohort(8, "float64")
    aggregator = mean()

    def part(*tasks):
        acc = aggregator.init(np.dtype("float64"))
        for task in tasks:
            acc = aggregator.add(acc, *updates[task])
        return acc

    by_hand = aggregator.finish(aggregator.merge(aggregator.merge(part(0), part(4, 5)), part(7)), np.dtype("float64"))
    present = ((task, *updates[task]) for task in (0, 4, 5, 7))
    assert bits(fold(aggregator, np.dtype("float64"), present, chunk=2)) == bits(by_hand)


def test_there_are_never_more_than_64_chunks():
    sizes = [chunk_size(n) for n in range(1, 5000)]
    assert all(-(-n // size) <= 64 for n, size in enumerate(sizes, 1))
    assert all(a <= b for a, b in pairwise(sizes))
