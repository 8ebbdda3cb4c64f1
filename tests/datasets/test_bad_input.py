"""What people get wrong, as they meet it at `FederatedDataset`: the error names the value, the rule and the remedy."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest

from umbel.datasets import (
    ContinuousPartitioner,
    DirichletPartitioner,
    FederatedDataset,
    GroupedNaturalIdPartitioner,
    IidPartitioner,
    InnerDirichletPartitioner,
    NaturalIdPartitioner,
    PathologicalPartitioner,
    ShardPartitioner,
)
from umbel.datasets.partition.by_size import dirichlet_sizes
from umbel.datasets.partition.labels import classes_of
from umbel.errors import DataError

LABEL = np.arange(40) % 4
HOLE = np.where(np.arange(40) == 7, np.nan, LABEL)
COLUMNS = {
    "label": LABEL,
    "hole": HOLE,
    "nothing": np.array([None if row == 7 else "abcd"[row % 4] for row in range(40)], object),
}
SOURCES = {
    "arrays": lambda: COLUMNS,
    "hugging face": lambda: datasets.Dataset.from_dict({name: column.tolist() for name, column in COLUMNS.items()}),
    "list": lambda: [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
}


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]()


def part_of(source, how, number=0, split="train"):
    return FederatedDataset(dataset=source, partitioners={split: how}).load_partition(number)


BY_LABEL = {
    "dirichlet": lambda column: DirichletPartitioner(2, column, 1.0, 1),
    "inner dirichlet": lambda column: InnerDirichletPartitioner([5, 5], column, 1.0),
    "pathological": lambda column: PathologicalPartitioner(2, column, 1),
    "shards": lambda column: ShardPartitioner(2, column, 1),
    "natural": lambda column: NaturalIdPartitioner(column),
    "groups": lambda column: GroupedNaturalIdPartitioner(column, 2),
    "continuous": lambda column: ContinuousPartitioner(2, column, 0.5),
}


@pytest.mark.parametrize("how", BY_LABEL)
def test_a_column_that_is_not_there(source, how):
    with pytest.raises(DataError, match=r"There is no column 'lable' to divide by\. Columns: 'label', 'hole', 'nothing'\."):
        part_of(source, BY_LABEL[how]("lable"))


@pytest.mark.parametrize("how", BY_LABEL)
@pytest.mark.parametrize("column", ["hole", "nothing"])
def test_a_label_that_is_nan_or_none(source, how, column):
    said = rf"Column '{column}' has no value \(None or NaN\) in 1 rows, .* every row needs one\. Drop these rows"
    with pytest.raises(DataError, match=said):
        part_of(source, BY_LABEL[how](column))


@pytest.mark.parametrize("dtype", ["string", "boolean", "Int64", "datetime64[ns]", "object"])
def test_a_label_that_pandas_has_not(dtype):
    values = {"boolean": [True, None, False], "Int64": [1, None, 2], "datetime64[ns]": ["2026-01-01", None, "2026-01-02"]}
    frame = pd.DataFrame({"y": pd.array(values.get(dtype, ["a", pd.NA, "b"]), dtype)})
    for how in (NaturalIdPartitioner("y"), ContinuousPartitioner(2, "y", 1.0)):
        with pytest.raises(DataError, match=r"Column 'y' has no value \(None or NaN\) in 1 rows, the first of them row"):
            part_of(frame, how)


def test_a_split_that_is_not_there(source):
    with pytest.raises(DataError, match=r"There is no split 'valid' here\. Splits: 'train'\."):
        part_of(source, 3, split="valid")


def test_more_partitions_than_rows(source):
    with pytest.raises(DataError, match=r"41 partitions of 40 rows: some would be empty\. Ask for at most 40 partitions\."):
        part_of(source, 41)


def test_a_minimum_that_cannot_be_reached(source):
    with pytest.raises(DataError, match=r"min_partition_size is 9: 5 partitions need 45 rows, and there are 40\. Set it to"):
        part_of(source, DirichletPartitioner(5, "label", 1.0, 9))
    with pytest.raises(
        DataError,
        match=r"min_partition_size is 8, and in 11 tries of drawing from Dirichlet\(alpha=0.01\) the smallest of 5 "
        r"partitions never had more than \d of 40 rows\. Set min_partition_size to \d or less, raise alpha, or ask for",
    ):
        part_of(source, DirichletPartitioner(5, "label", 0.01, 8))


@pytest.mark.parametrize("alpha", [float("nan"), 0.0, -1.0, 1e-310, float("inf")])
def test_sizes_of_no_distribution_are_refused_at_once(alpha):
    with pytest.raises(DataError, match=r"alpha is .* must be 1e-300 at least and finite"):
        dirichlet_sizes(100, 4, alpha=alpha, min_partition_size=0, seed=1)


@pytest.mark.parametrize("number", [3, -1, 10**30])
def test_a_partition_that_is_not_there(source, number):
    for _ in range(2):  # also where the rows are kept
        with pytest.raises(DataError, match=rf"partition_id is {number}, but there are 3 partitions: give a number from 0"):
            part_of(source, 3, number)
        part_of(source, 3)


@pytest.mark.parametrize("kind", ["arrays", "hugging face"])
def test_an_id_column_with_a_million_values(kind):
    million = np.arange(10**6)
    source = {"id": million} if kind == "arrays" else datasets.Dataset.from_dict({"id": million})
    for how, said in {
        NaturalIdPartitioner("id"): r"'id' has 1000000 different ids, and at most 999999 partitions .*GroupedNaturalId",
        DirichletPartitioner(2, "id", 1.0): r"'id' has 1000000 different values, .* Choose the column of labels",
    }.items():
        with pytest.raises(DataError, match=said):
            part_of(source, how)


ROWS = datasets.Dataset.from_dict({"x": list(range(100))})


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (datasets.DatasetDict({"test": ROWS}), r"a DatasetDict; it divides one split: set .dataset = splits\['test'\]"),
        ({"x": [1, 2]}, "a dict; it divides one split"),
        (ROWS.to_iterable_dataset(), "an IterableDataset; a stream has no length: load it without streaming=True"),
        (np.arange(100), r"an? ndarray; give it a datasets.Dataset, or give the data to FederatedDataset"),
        (pd.DataFrame({"x": [1, 2]}), "a DataFrame; give it a datasets.Dataset"),
        ([1, 2, 3], "a list; give it a datasets.Dataset"),
        (None, "a NoneType; give it a datasets.Dataset"),
    ],
)
def test_what_a_partitioner_cannot_divide_is_named_when_it_is_set(given, remedy):
    partitioner = IidPartitioner(5)
    with pytest.raises(DataError, match=f"This IidPartitioner was given {remedy}"):
        partitioner.dataset = given
    partitioner.dataset = ROWS
    assert len(partitioner.load_partition(0)) == 20


@pytest.mark.parametrize("how", ["dirichlet", "inner dirichlet", "pathological"])
def test_measured_numbers_are_no_classes(how):
    drawn = np.random.default_rng(0).normal(size=5000)
    for measured in (drawn[:200], drawn, drawn.round(2), drawn.astype("float32")):
        with pytest.raises(DataError, match=r"Column 'y' has .* different values .* Divide it with ContinuousPartitioner"):
            part_of({"y": measured}, BY_LABEL[how]("y"))


@pytest.mark.parametrize("how", ["dirichlet", "inner dirichlet", "pathological"])
def test_whole_numbers_and_a_few_fractions_are_classes_also_as_floats(how):
    stars = np.arange(40) % 10 / 2
    for labels in (LABEL.astype("float64"), stars):
        part_of({"y": labels}, BY_LABEL[how]("y"))
    assert len(classes_of(np.arange(200.0)).values) == 200


def test_a_flag_is_true_or_false():
    with pytest.raises(DataError, match="shuffle='no'; it is True or False"):
        DirichletPartitioner(2, "y", 1.0, shuffle="no")
    with pytest.raises(DataError, match="shuffle='yes'; it is True or False"):
        FederatedDataset(dataset={"y": LABEL}, partitioners={"train": 2}, shuffle="yes")
