"""A list of arrays that knows their names: a list for programs that take one, and by name for those that ask."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters, parameters_to_ndarrays
from umbel.dialogue import Parameters
from umbel.named import NamedArrays, are_numbers, numbers
from umbel.params import Params, as_arrays, named_as

W, B = np.arange(6.0).reshape(2, 3), np.ones(2, "float32")


def named() -> NamedArrays:
    return NamedArrays([W, B], ["fc.weight", "fc.bias"])


def test_it_is_a_list_for_those_who_take_one():
    p = named()
    assert isinstance(p, list)
    assert p == [W, B]
    assert type(p[:1] + [B]) is list  # noqa: RUF005  # as people write it
    assert [a.shape for a, _ in zip(p, p, strict=True)] == [(2, 3), (2,)]
    first, *_ = p
    assert first is W


def test_it_is_a_mapping_for_those_who_ask_by_name():
    p = named()
    assert p.names == ("fc.weight", "fc.bias")
    assert p["fc.bias"] is B
    assert list(dict(p)) == list({**p}) == list(p.keys()) == ["fc.weight", "fc.bias"]
    assert "fc.bias" in p
    assert "fc" not in p
    assert p.get("fc") is None
    p["fc.bias"] = W
    assert p[1] is W
    with pytest.raises(KeyError, match=r"no array is called 'fc.wieght'; did you mean 'fc.weight'\?"):
        p["fc.wieght"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), lambda p: p[:]])
def test_copies_know_the_names(copied):
    again = copied(named())
    assert again.names == named().names
    assert all(map(np.array_equal, again, named()))


def change(statement: str) -> NamedArrays:
    p = named()
    exec(statement)  # a statement for each way to change a list
    return p


@pytest.mark.parametrize(
    "statement",
    ["p.append(W)", "p.pop()", "p.reverse()", "p.insert(0, W)", "del p[0]", "p += [W]", "p *= 2", "p[:1] = []", "p.clear()"],
)
def test_names_are_forgotten_where_nobody_knows_any_more_whose_they_are(statement):
    p = change(statement)
    assert p.names == numbers(len(p))


@pytest.mark.parametrize("statement", ["p[0] = W", "p[:] = [W, B]", "p['fc.bias'] = B", "p[-1] += 1"])
def test_names_stay_where_values_change(statement):
    assert change(statement).names == named().names


def test_arrays_without_names_have_numbers_whose_order_by_name_is_theirs():
    for count in (1, 10, 11, 101):
        assert sorted(numbers(count)) == [*numbers(count)]
        assert are_numbers(numbers(count))
        assert are_numbers([str(i) for i in range(count)])  # as an older Umbel has written them
    assert numbers(10)[-1] == "9"
    assert numbers(11)[:2] == ("00", "01")
    assert Params.of([W] * 12).schema.names == numbers(12)
    assert not are_numbers(["1", "0"])


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ({"fc.bias": B, "fc.weight": W}, ("fc.weight", "fc.bias")),  # another order: by name
        ([W, B], ("fc.weight", "fc.bias")),  # by position
        (dict(zip(numbers(2), [W, B], strict=True)), ("fc.weight", "fc.bias")),  # numbers are positions
        ({"fc.bias": B, "fc.weigh": W}, ("fc.bias", "fc.weigh")),  # as it is, for the door to name what is odd
        ([W], None),
    ],
)
def test_what_is_returned_is_found_by_name_or_else_by_position(returned, names):
    found = named_as(as_arrays(returned), named().names)
    assert getattr(found, "names", None) == names
    if names == named().names:
        assert found == [W, B]


def test_bytes_are_told_by_the_end_of_their_name():
    p = Params.of({"net": W, "trees": b"abc"}).arrays()
    assert p.names == ("net", "trees.bytes")
    assert bytes(p["trees"]) == b"abc"
    assert named_as(as_arrays([W, b"abcdef"]), ["net", "trees"]).names == p.names


@pytest.mark.parametrize(
    "made",
    [
        lambda: ndarrays_to_parameters(dict(named())),
        lambda: Parameters(dict(named())),
        lambda: Parameters({name: ndarrays_to_parameters([array]).tensors[0] for name, array in named().items()}),
        lambda: pickle.loads(pickle.dumps(ndarrays_to_parameters(named()))),
    ],
    ids=["function", "arrays", "bytes", "pickled"],
)
def test_parameters_keep_names(made):
    arrays = parameters_to_ndarrays(made())
    assert arrays.names == named().names
    assert all(map(np.array_equal, arrays, [W, B]))
