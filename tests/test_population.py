"""Who is there: one order for numbers and names, and a million clients that nobody has to name."""

from __future__ import annotations

import time
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.population import Clients, Population, number_of
from umbel.selectors import sample

names = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "007", "-1", "٣", "site 1", ""]))


def test_numbers_come_first_by_value_then_names():
    assert list(Clients(0, ["b", "10", "9", "a", "010"])) == ["9", "10", "010", "a", "b"]


@pytest.mark.parametrize("name", ["", "01", "-1", "1.0", "٣", "²", " 1", "9" * 19])
def test_what_str_would_not_write_is_not_a_number(name):
    assert number_of(name) is None


@given(st.integers(0, 20), st.lists(names))
def test_a_range_and_the_same_clients_by_name_are_the_same_sequence(numbered, others):
    short = Clients(numbered, others)
    long = Clients(0, [*map(str, range(numbered)), *others])
    assert list(short) == list(long) == [short[i] for i in range(len(short))]
    assert len(short) == len(long) == len(set(short))
    assert short[-3:] == list(long)[-3:]
    assert all((name in short) == (name in long) for name in ["0", "7", "a", "b", "25", "007", ""])


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "range"]), names, st.integers(0, 25))))
def test_a_population_is_a_set_of_names_whatever_happens(steps):
    population, told = Population(), set()
    for step, name, numbered in steps:
        if step == "add":
            population.add(name)
            told.add(name)
        elif step == "remove":
            population.remove(name)
            told.discard(name)
        else:
            gone = {str(i) for i in range(population.numbered)} - told  # who has left does not come back by it
            population.add_range(numbered)
            told |= {str(i) for i in range(numbered)} - gone
        assert set(population) == told
        assert len(population) == len(told)
        assert all((name in population) == (name in told) for name in ["0", "3", "a", "007"])


def test_an_index_that_is_not_there_is_named():
    with pytest.raises(IndexError, match="client 3 of 3"):
        Clients(3)[3]


def test_a_hundred_of_a_million_are_drawn_without_touching_the_rest():
    crowd = Clients(1_000_000)
    tracemalloc.start()
    started = time.perf_counter()
    chosen = sample(crowd, 100, lambda: np.random.RandomState(7))
    took, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen, key=int)
    assert peak < 200_000  # bytes; a permutation is 8 MB
    assert took < 1


def test_every_pair_is_drawn_equally_often():
    counts: dict[tuple[str, ...], int] = {}
    for seed in range(6000):
        pair = tuple(sample(Clients(4), 2, lambda seed=seed: np.random.RandomState(seed)))
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 6
    assert all(900 < count < 1100 for count in counts.values())  # 1,000 expected, σ = 29


@given(st.integers(0, 8), st.lists(names), st.lists(names), st.lists(names))
def test_leaving_out_more_is_leaving_them_out_from_the_start(numbered, others, first, then):
    crowd = Clients(numbered, others, without=[*first, *then])
    assert Clients(numbered, others, without=first).but(then) == crowd
    assert list(Clients(numbered, others).but(first).but(then)) == list(crowd)
    assert [crowd[i] for i in range(len(crowd))] == list(crowd)
    assert all((name in crowd) == (name in list(crowd)) for name in [*others, *first, *then, "0", "3", "a"])
    assert hash(crowd) == hash(Clients(numbered, others).but([*first, *then]))


@given(st.lists(st.tuples(st.booleans(), names)), st.lists(st.tuples(st.booleans(), names)))
def test_a_population_that_was_written_and_read_goes_on_as_it_was(before, after):
    def go_on(population, steps):
        for comes, name in steps:
            (population.add if comes else population.remove)(name)
        return population.present()

    whole, first = Population(numbered=3), Population(numbered=3)
    go_on(first, before)
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Population)
    assert read == first
    assert go_on(read, after) == go_on(whole, [*before, *after])


def test_who_comes_or_goes_does_not_have_everybody_sorted_again():
    crowd = Population()
    for number in range(20_000):
        crowd.add(f"client-{number * 7919 % 1_000_003}")
    started = time.perf_counter()
    Clients(0, crowd.named)
    sorting = time.perf_counter() - started
    started = time.perf_counter()
    for number in range(100):
        crowd.add(f"a-{number}")
        assert next(iter(crowd)) == f"a-{number}"
        crowd.remove(f"a-{number}")
    assert (time.perf_counter() - started) / 100 < sorting / 20  # a hundredth is what it is
    assert crowd.present() is crowd.present()
