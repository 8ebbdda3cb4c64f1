"""Splits into other splits."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.datasets import Divider, FederatedDataset, Merger
from umbel.datasets.sources.arrays import view_of
from umbel.datasets.tables import ArrayTable
from umbel.datasets.view import View
from umbel.errors import DataError


def splits(**sizes):
    ends = np.cumsum(list(sizes.values()))
    return {
        name: View(ArrayTable({"row": np.arange(end - size, end)}))
        for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def rows(made):
    return {name: part["row"].tolist() for name, part in made.items()}


def test_a_split_is_divided_and_the_others_stay():
    made = Divider({"train": 0.75, "valid": 0.25}, divide_split="train")(splits(train=4, test=2))
    assert rows(made) == {"test": [4, 5], "train": [0, 1, 2], "valid": [3]}


def test_shares_that_a_float_does_not_hold_exactly_lose_no_row():
    made = Divider({"train": 0.57, "valid": 0.43})(splits(train=100))
    assert {name: len(part) for name, part in made.items()} == {"train": 57, "valid": 43}


def test_or_the_others_go():
    made = Divider({"a": 1, "b": 2}, divide_split="train", drop_remaining_splits=True)(splits(train=4, test=2))
    assert rows(made) == {"a": [0], "b": [1, 2]}


def test_several_splits_are_divided_at_once():
    made = Divider({"train": {"train": 0.5, "valid": 0.5}, "test": {"a": 0.5}})(splits(train=2, test=2))
    assert rows(made) == {"train": [0], "valid": [1], "a": [2]}


@pytest.mark.parametrize(
    ("config", "more", "text"),
    [
        ({}, {}, "divide_config is {}"),
        ({"a": 0.5, "b": 1}, {}, "not both"),
        ({"a": 0.9, "b": 0.9}, {}, "at most 1"),
        ({"a": -1}, {}, "numbers of rows from 1 up"),
        ({"train": {"a": 0.5}, "b": 0.5}, {}, "beside splits"),
        ({"train": {"a": 0.5}, "test": {"a": 0.5}}, {}, "'a' twice"),
        ({"a": 0.5}, {}, "2 splits"),
        ({"a": 0.5}, {"divide_split": "none"}, "no split 'none'"),
        ({"a": 5}, {"divide_split": "train"}, "has 4 rows, and divide_config asks for 5"),
        ({"a": 0.1}, {"divide_split": "train"}, "would be empty"),
        ({"test": 0.5}, {"divide_split": "train"}, "there is one already"),
    ],
)
def test_what_cannot_be_divided_is_said(config, more, text):
    with pytest.raises(DataError, match=text):
        Divider(config, **more)(splits(train=4, test=2))


def test_splits_are_merged_under_a_new_name():
    made = Merger({"all": ("train", "test"), "kept": ("test",)})(splits(train=2, test=2))
    assert rows(made) == {"all": [0, 1, 2, 3], "kept": [2, 3]}


def test_merged_rows_have_the_form_that_they_had():
    pair = view_of((np.arange(3), np.arange(3) % 2))
    for part, row in ((pair, (2, 0)), (pair.select_columns("y"), 0), (view_of(np.arange(3)), 2)):
        merged = Merger({"all": ("train", "test")})({"train": part, "test": part})["all"]
        assert [merged[2], merged[5]] == [row, row]
        assert type(merged.numpy()) is type(part.numpy())


def test_splits_of_different_columns_are_not_merged():
    different = {"train": view_of(np.arange(3)), "test": view_of({"y": np.arange(3)})}
    with pytest.raises(DataError, match=r"different columns cannot be merged: \['x'\], \['y'\]\. Select the same"):
        Merger({"all": ("train", "test")})(different)


@pytest.mark.parametrize(
    ("config", "text"), [({}, "merge_config is"), ({"a": "train"}, "must be a tuple"), ({"a": ("none",)}, "no split 'none'")]
)
def test_what_cannot_be_merged_is_said(config, text):
    with pytest.raises(DataError, match=text):
        Merger(config)(splits(train=2, test=2))


def test_a_federation_takes_them_or_any_function():
    datasets = pytest.importorskip("datasets")
    data = datasets.DatasetDict(
        {"train": datasets.Dataset.from_dict({"x": range(6)}), "test": datasets.Dataset.from_dict({"x": range(6, 8)})}
    )
    merged = FederatedDataset(dataset=data, preprocessor=Merger({"all": ("train", "test")}), partitioners={"all": 2}, seed=1)
    assert sorted(list(merged.load_partition(0)["x"]) + list(merged.load_partition(1)["x"])) == list(range(8))
    short = FederatedDataset(dataset=data, preprocessor={"all": ("train", "test")}, partitioners={"all": 2}, seed=1)
    assert list(short.load_partition(0)["x"]) == list(merged.load_partition(0)["x"])
    halves = FederatedDataset(
        dataset=data, preprocessor=Divider({"a": 0.5, "b": 0.5}, divide_split="train"), partitioners={"a": 1}, shuffle=False
    )
    assert list(halves.load_partition(0)["x"]) == [0, 1, 2]
    own = FederatedDataset(
        dataset=data, preprocessor=lambda found: datasets.DatasetDict({"one": found["test"]}), partitioners={"one": 1}
    )
    assert sorted(own.load_partition(0)["x"]) == [6, 7]
