"""The same rows on every machine and every numpy; and the rows of flwr-datasets 0.6.1 where it leaves nothing to chance."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import umbel.datasets as federated
from umbel.datasets.tables import ArrayTable
from umbel.datasets.view import View

GOLDEN = Path(__file__).parent / "golden"
FLWR = json.loads((GOLDEN / "flwr_datasets.json").read_text())


def own_cases():
    spec = importlib.util.spec_from_file_location("golden_cases", GOLDEN / "cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: module.digest(parts) for name, parts in module.cases().items()}


def data():
    return View(ArrayTable({name: np.array(values) for name, values in FLWR["data"].items()}))


def divided(name, arguments):
    partitioner = getattr(federated, name)(**arguments)
    partitioner.dataset = data()
    return partitioner, [partitioner.load_partition(number) for number in range(partitioner.num_partitions)]


def label(case):
    return " ".join(
        [case[0].removesuffix("Partitioner"), *(str(value) for value in case[1].values() if np.ndim(value) == 0)]
    )


def test_every_scheme_gives_the_rows_that_it_gave_elsewhere():
    assert own_cases() == json.loads((GOLDEN / "umbel.json").read_text())


@pytest.mark.parametrize("case", FLWR["rows"], ids=label)
def test_rows_are_those_of_flwr_datasets(case):
    name, arguments, expected = case
    _, parts = divided(name, arguments)
    assert [part["row"].tolist() for part in parts] == expected


@pytest.mark.parametrize("case", FLWR["sizes"], ids=label)
def test_sizes_are_those_of_flwr_datasets(case):
    name, arguments, expected = case
    _, parts = divided(name, arguments)
    assert [len(part) for part in parts] == expected


@pytest.mark.parametrize("case", FLWR["columns"], ids=label)
def test_columns_are_those_of_flwr_datasets(case):
    name, arguments, expected = case
    _, parts = divided(name, arguments)
    assert [part.column_names for part in parts] == expected


def test_counts_and_frequencies_are_those_of_flwr_datasets():
    pytest.importorskip("pandas")
    partitioner, _ = divided("IidPartitioner", {"num_partitions": 3})
    for column, expected in FLWR["counts"].items():
        assert federated.compute_counts(partitioner, column).to_dict(orient="split") == expected
    assert federated.compute_frequencies(partitioner, "label").to_dict(orient="split") == FLWR["frequencies"]


def test_divider_is_that_of_flwr_datasets():
    made = federated.Divider({"a": 0.5, "b": 0.3})({"all": data()})
    assert {name: rows["row"].tolist() for name, rows in made.items()} == FLWR["divided"]
