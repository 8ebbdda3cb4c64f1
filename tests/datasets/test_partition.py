"""Index arrays: disjoint, complete, and the same for everybody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.datasets.partition import even, shuffled
from umbel.errors import DataError

seeds = st.integers(min_value=-(2**70), max_value=2**70)


@given(size=st.integers(1, 500), data=st.data())
def test_even_parts_are_disjoint_complete_and_differ_by_one_row_at_most(size, data):
    parts = even(size, data.draw(st.integers(1, size)))
    assert np.concatenate(parts).tolist() == list(range(size))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(size=st.integers(0, 500), seed=seeds)
def test_shuffled_is_a_permutation_that_a_second_asker_gets_too(size, seed):
    order = shuffled(size, seed=seed, split="train")
    assert sorted(order.tolist()) == list(range(size))
    assert order.tolist() == shuffled(size, seed=seed, split="train").tolist()
    assert order.dtype == np.int64


def test_order_is_the_same_on_every_machine_and_every_numpy():
    assert shuffled(12, seed=42, split="train").tolist() == [7, 4, 11, 8, 0, 3, 10, 6, 1, 9, 5, 2]
    assert shuffled(60_000, seed=42, split="train")[:8].tolist() == [15540, 9439, 50464, 1803, 27843, 5680, 5101, 47538]


def test_order_differs_by_seed_and_by_split():
    order = shuffled(100, seed=1, split="train").tolist()
    assert order != shuffled(100, seed=2, split="train").tolist()
    assert order != shuffled(100, seed=1, split="test").tolist()


def test_order_leaves_the_callers_randomness_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    shuffled(100, seed=1, split="train")
    assert np.random.random() == expected


def test_more_partitions_than_rows_is_said_with_both_numbers():
    with pytest.raises(DataError, match=r"^4 partitions of 3 rows: .* at most 3 partitions\.$"):
        even(3, 4)
