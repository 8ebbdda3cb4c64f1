"""How different clients are: tables and measures that a reader can check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel import datasets as federated
from umbel.datasets.heterogeneity import effective_classes, jensen_shannon, label_counts, mean_total_variation
from umbel.datasets.partition import dirichlet
from umbel.datasets.tables import ArrayTable
from umbel.datasets.view import View
from umbel.errors import DataError

tables = st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=6).filter(
    lambda t: sum(map(sum, t))
)


@given(tables)
def test_measures_keep_within_their_range(counts):
    assert 0 <= mean_total_variation(counts) < 1
    assert 0 <= jensen_shannon(counts) < 1
    assert 1 - 1e-9 <= effective_classes(counts) <= 3 + 1e-9


@given(row=st.lists(st.integers(1, 50), min_size=2, max_size=5), times=st.integers(1, 5))
def test_clients_that_are_alike_differ_by_nothing(row, times):
    counts = np.array([row] * times)
    assert mean_total_variation(counts) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(counts) == pytest.approx(0, abs=1e-12)


def test_partitions_without_rows_are_left_out():
    assert mean_total_variation([[4, 0], [0, 4], [0, 0]]) == mean_total_variation([[4, 0], [0, 4]]) == 0.5


def test_smaller_alpha_is_more_different():
    labels = np.arange(5_000) % 10
    found = [
        label_counts(labels, dirichlet(labels, num_partitions=20, alpha=alpha, min_partition_size=1))
        for alpha in (0.1, 1, 100)
    ]
    for measure, sign in ((mean_total_variation, -1), (jensen_shannon, -1), (effective_classes, 1)):
        values = [sign * measure(counts) for counts in found]
        assert values == sorted(values)


@pytest.mark.parametrize("counts", [[1, 2], [[0, 0]], [[-1, 2]], [[np.nan, 1]]])
def test_what_is_no_table_of_counts_is_refused(counts):
    with pytest.raises(DataError, match=r"^Counts of shape \("):
        jensen_shannon(counts)


def test_class_labels_without_rows_are_counted_and_named():
    pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict(
        {"label": [0, 2, 2, 0]}, features=datasets.Features({"label": datasets.ClassLabel(names=["a", "b", "c"])})
    )
    partitioner = federated.IidPartitioner(2)
    partitioner.dataset = rows
    assert federated.compute_counts(partitioner, "label", max_num_partitions=1).values.tolist() == [[1, 0, 1]]
    table = federated.compute_frequencies(partitioner, "label", verbose_names=True)
    assert table.columns.tolist() == ["a", "b", "c"]
    assert table.index.name == "Partition ID"
    assert table.values.tolist() == [[0.5, 0, 0.5]] * 2


def test_rows_whose_label_has_no_name_are_counted_too():
    pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"label": datasets.ClassLabel(names=["a", "b"])})
    partitioner = federated.IidPartitioner(2)
    partitioner.dataset = datasets.Dataset.from_dict({"label": [-1, 0, -1, -1]}, features=features)
    table = federated.compute_counts(partitioner, "label")
    assert (table.columns.tolist(), table.values.tolist()) == ([-1, 0, 1], [[1, 1, 0], [2, 0, 0]])
    named = federated.compute_frequencies(partitioner, "label", verbose_names=True)
    assert (named.columns.tolist(), named.values.tolist()) == ([-1, "a", "b"], [[0.5, 0.5, 0], [1, 0, 0]])


def test_an_id_column_with_a_million_values_is_no_table():
    pytest.importorskip("pandas")
    partitioner = federated.IidPartitioner(1000)
    partitioner.dataset = View(ArrayTable({"id": np.arange(10**6)}))
    with pytest.raises(DataError, match=r"Column 'id' has 1000000 different values, and at most 10000 are taken for"):
        federated.compute_counts(partitioner, "id")


def test_vertical_partitions_are_counted_too():
    pytest.importorskip("pandas")
    partitioner = federated.VerticalEvenPartitioner(2, shared_columns="label", shuffle=False)
    partitioner.dataset = View(ArrayTable({"a": np.arange(3), "b": np.arange(3), "label": np.array(["x", "y", "x"])}))
    assert federated.compute_counts(partitioner, "label").values.tolist() == [[2, 1], [2, 1]]
