"""Clients' numbers as one: means that no product can make infinite, and medians that no minority can move."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.strategies.averages import average_metrics, median_metrics, senders_needed

LARGEST = 1.7976931348623157e308


def test_what_is_not_finite_is_missing_from_an_average():
    sent = [(1, {"auc": math.nan, "f1": 0.5}), (3, {"auc": 0.5, "f1": math.inf}), (4, {"auc": -math.inf})]
    assert average_metrics(sent) == {"auc": 0.5, "f1": 0.5}
    assert average_metrics([(1, {"auc": math.nan})]) == {}


@pytest.mark.parametrize("counts", [(10**7, 10, 10), (0, 0, 0), (10**9, 0, 1)])
@pytest.mark.parametrize("value", [1e308, LARGEST, -LARGEST])
def test_no_product_makes_an_average_infinite(counts, value):
    for values in ((value, 0.5, 0.5), (value, value, value), (value, value, -value)):
        mean = average_metrics([(count, {"m": each}) for count, each in zip(counts, values, strict=True)])["m"]
        assert min(values) <= mean <= max(values)


def test_an_average_of_ordinary_numbers_has_the_bits_that_it_always_had():
    values = [0.1, 0.7, 1 / 3]
    mean = average_metrics([(count, {"m": value}) for count, value in zip((3, 5, 11), values, strict=True)])["m"]
    assert mean == (0.0 + 3 * 0.1 + 5 * 0.7 + 11 * (1 / 3)) / 19.0


def test_names_that_more_clients_sent_come_first():
    flood = {f"m{i}": 1.0 for i in range(100)}
    assert next(iter(average_metrics([(1, flood), (1, {"loss": 0.5}), (1, {"loss": 0.5})]))) == "loss"


def test_a_median_takes_each_client_once_and_strings_not_at_all():
    assert median_metrics([{"a": 1, "site": "A"}, {"a": True, "site": "B"}, {"a": 3.0}]) == {"a": 1.0}
    assert median_metrics([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}
    assert median_metrics([{"a": LARGEST}, {"a": LARGEST}]) == {"a": LARGEST}
    assert median_metrics([{"a": 5e-324}, {"a": 5e-324}]) == {"a": 5e-324}
    assert median_metrics([]) == {}


def test_a_metric_that_only_liars_send_is_not_believed():
    honest = [{"accuracy": 0.5}] * 5
    liars = [{"accuracy": 1.0, "bonus": 1.0}] * 2
    assert median_metrics([*liars, *honest], 2) == {"accuracy": 0.5}
    assert median_metrics([*liars, *honest]) == {"accuracy": 0.5}
    assert median_metrics([*liars, *honest[:2]], 2) == {}  # four cannot outvote two


lies = st.none() | st.text(max_size=3) | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_a_minority_says_the_median_is_between_what_honest_clients_say(data):
    liars = data.draw(st.integers(0, 3))
    honest = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=liars + 1, max_size=8))
    told = data.draw(st.lists(st.dictionaries(st.sampled_from(["m", "own"]), lies), min_size=liars, max_size=liars))
    told = [{name: value for name, value in each.items() if value is not None} for each in told]
    sent = data.draw(st.permutations([{"m": value} for value in honest] + told))
    for f in (None, liars or None):
        found = median_metrics(sent, f)
        assert set(found) == {"m"}  # they can neither bring a name of their own nor take one away
        assert min(honest) <= found["m"] <= max(honest)


def test_how_many_must_have_sent_a_number():
    assert [senders_needed(count) for count in range(6)] == [None, 1, 2, 2, 3, 3]
    assert [senders_needed(count, 2) for count in (4, 5, 6, 7, 20)] == [None, 3, 4, 5, 5]
