"""What cannot be divided is said: the thing, its value, the rule and the remedy."""

from __future__ import annotations

import numpy as np
import pytest

from umbel import datasets as federated
from umbel.datasets import partition
from umbel.datasets.partition.labels import Labels
from umbel.datasets.partition.natural import Remainder
from umbel.datasets.tables import ArrayTable
from umbel.datasets.view import View
from umbel.errors import DataError

LABELS = np.arange(12) % 3


def divide(partitioner):
    values = np.linspace(0, 1, 12)
    hole = np.where(np.arange(12) == 5, np.nan, values)
    columns = {
        "label": LABELS,
        "hole": hole,
        "same": np.full(12, 0.1),
        "when": np.array(["2026-01-01", "NaT"] * 6, "M8[s]"),
        "text": np.array(list("abcdefghijkl")),
        "none": np.array(["a", None] * 6, object),
        "picture": np.zeros((12, 2)),
    }
    partitioner.dataset = View(ArrayTable(columns))
    return partitioner.load_partition(0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: federated.DirichletPartitioner(2, "lable", 1.0), r"no column 'lable' .*'label'"),
        (lambda: federated.DirichletPartitioner(0, "label", 1.0), r"num_partitions is 0"),
        (lambda: federated.DirichletPartitioner(13, "label", 1.0, 0), r"13 partitions of 12 rows: .* at most 12"),
        (lambda: federated.DirichletPartitioner(2, "label", 0.0), r"alpha is 0.0 .* must be 1e-300 at least"),
        (lambda: federated.DirichletPartitioner(2, "label", 1e-310), r"alpha is 1e-310 .* must be 1e-300 at least"),
        (lambda: federated.DirichletPartitioner(2, "label", float("nan")), r"alpha is nan"),
        (lambda: federated.DirichletPartitioner(2, "label", "much"), r"alpha is 'much'"),
        (
            lambda: federated.DirichletPartitioner(2, "label", [1.0]),
            r"alpha has 1 entries, and must have 2: give one per partition",
        ),
        (lambda: federated.DirichletPartitioner(2, "label", 1.0), r"min_partition_size is 10: 2 partitions need 20 rows"),
        (
            lambda: federated.DirichletPartitioner(6, "label", 0.01, 2),
            r"min_partition_size is 2, and in 11 tries .*alpha=0.01.* never had more than \d of 12 rows.*raise alpha",
        ),
        (lambda: federated.DirichletPartitioner(2, "label", 1.0, seed=None), r"seed is None"),
        (
            lambda: federated.DirichletPartitioner(2, "hole", 1.0, 1),
            r"'hole' has no value \(None or NaN\) in 1 rows.* row 5",
        ),
        (lambda: federated.NaturalIdPartitioner("none"), r"'none' has no value .* in 6 rows"),
        (lambda: federated.NaturalIdPartitioner("picture"), r"'picture' has shape \(12, 2\)"),
        (lambda: federated.InnerDirichletPartitioner([6, 7], "label", 1.0), r"add up to 13 rows, and there are 12"),
        (lambda: federated.InnerDirichletPartitioner([6, -1], "label", 1.0), r"partition_sizes\[1\] is -1"),
        (
            lambda: federated.InnerDirichletPartitioner([6], "label", [1.0, 1.0]),
            r"2 entries, and must have 3: give one per class",
        ),
        (lambda: federated.InnerDirichletPartitioner([6], "label", [[1], [2, 3]]), r"alpha is \[\[1\], .* one per class"),
        (lambda: federated.InnerDirichletPartitioner([6], "label", "much"), r"alpha is 'much', and must be a positive"),
        (lambda: federated.PathologicalPartitioner(2, "label", 4), r"num_classes_per_partition is 4, .* 3 different"),
        (lambda: federated.PathologicalPartitioner(2, "label", 1, "any"), r"class_assignment_mode is 'any', .* 'random'"),
        (
            lambda: federated.PathologicalPartitioner(12, "label", 3),
            r"Label 0 of column 'label' goes to 12 partitions .* 4 rows",
        ),
        (lambda: federated.ShardPartitioner(2, "label"), r"Neither num_shards_per_partition nor shard_size"),
        (lambda: federated.ShardPartitioner(2, "label", 2, 4), r"need 16 rows, and there are 12"),
        (lambda: federated.ShardPartitioner(2, "label", shard_size=8), r"12 rows are 1 shards of 8 .* at most 6"),
        (lambda: federated.ShardPartitioner(2, "label", shard_size=0), r"shard_size is 0"),
        (lambda: federated.DistributionPartitioner([[1.0]], 2, 1, "label", 0), r"must be a multiple of the 3 labels"),
        (lambda: federated.DistributionPartitioner([[1.0]], 3, 1, "label", 0), r"shape \(1, 1\), and must have \(3, 1\)"),
        (lambda: federated.DistributionPartitioner([[1], [2, 3]], 3, 1, "label", 0), r"is \[\[1\], .* a row of shares per"),
        (lambda: federated.DistributionPartitioner("even", 3, 1, "label", 0), r"distribution_array is 'even', and must be"),
        (lambda: federated.DistributionPartitioner([[-1.0]] * 3, 3, 1, "label", 0), r"negative, infinite or NaN"),
        (
            lambda: federated.DistributionPartitioner([[1.0]] * 3, 3, 1, "label", 9),
            r"preassigned_num_samples_per_label is 9",
        ),
        (
            lambda: federated.DistributionPartitioner([[9]] * 3, 3, 1, "label", 0, rescale=False),
            r"asks for 9 rows of label 0",
        ),
        (lambda: federated.ContinuousPartitioner(2, "hole", 1.0), r"'hole' has no value"),
        (lambda: federated.ContinuousPartitioner(2, "same", 0.5), r"All values of column 'same' are 0.1,"),
        (lambda: federated.ContinuousPartitioner(2, "when", 1.0), r"'when' has no value .* in 6 rows, .* row 1;"),
        (lambda: federated.ContinuousPartitioner(2, "none", 1.0), r"'none' has no value"),
        (lambda: federated.ContinuousPartitioner(2, "text", 0.5), r"'text' has values that are not numbers"),
        (lambda: federated.ContinuousPartitioner(2, "label", 1.5), r"strictness is 1.5, .* from 0 to 1"),
        (lambda: federated.SizePartitioner([]), r"partition_sizes is \[\]"),
        (lambda: federated.SizePartitioner([6, 7]), r"add up to 13 rows, and there are 12. Make them 1 rows smaller"),
        (lambda: federated.SizePartitioner([0]), r"partition_sizes\[0\] is 0"),
        (lambda: federated.ExponentialPartitioner(6), r"of 6 partitions of 12 rows would be empty"),
        (lambda: federated.IdToSizeFncPartitioner(2, lambda number: -number), r"size of partition 0 is -1.0"),
        (lambda: federated.IdToSizeFncPartitioner(2, lambda number: 0 * number), r"would be empty"),
        (lambda: federated.IdToSizeFncPartitioner(2, lambda number: 3), r"partition_id_to_size_fn answered"),
        (lambda: federated.IdToSizeFncPartitioner(2, "sqrt"), r"partition_id_to_size_fn is 'sqrt', and must be a function"),
        (lambda: federated.GroupedNaturalIdPartitioner("label", 0), r"group_size is 0"),
        (lambda: federated.GroupedNaturalIdPartitioner("label", 4, "strict"), r"group_size is 4, .* has 3 ids"),
        (lambda: federated.GroupedNaturalIdPartitioner("label", 2, "strict"), r"leave 1 over"),
        (
            lambda: federated.GroupedNaturalIdPartitioner("label", 2, "drop-remainder"),
            r"mode is 'drop-remainder', .*drop-reminder",
        ),
        (lambda: federated.DirichletSizePartitioner(4, min_partition_size=4), r"min_partition_size is 4: .* at most 3"),
        (lambda: federated.LogNormalSizePartitioner(4, sigma=-1), r"sigma is -1"),
        (lambda: federated.VerticalEvenPartitioner(8), r"8 partitions of 7 columns"),
        (lambda: federated.VerticalEvenPartitioner(2, "lable"), r"active_party_columns names 'lable'"),
        (lambda: federated.VerticalEvenPartitioner(2, "label", "add_to_none"), r"'add_to_none', .*'add_to_last'"),
        (lambda: federated.VerticalEvenPartitioner(2, "label", 2), r"active_party_columns_mode is 2, but there are 2"),
        (lambda: federated.VerticalEvenPartitioner(2, "label", shared_columns="label"), r"a column has one role"),
        (lambda: federated.VerticalSizePartitioner([1, 2]), r"add up to 3 columns, and 7 are"),
        (lambda: federated.VerticalSizePartitioner([0.5, 0.1]), r"shares that add up to 0.6"),
        (lambda: federated.LocalSplitPartitioner(federated.IidPartitioner(2), {"a": 0.7, "b": 0.7}), r"add up to 1.4"),
        (lambda: federated.LocalSplitPartitioner(federated.IidPartitioner(2), {"a": 0.7}).of("b"), r"no split 'b'"),
        (lambda: federated.HierarchicalPartitioner(3, 2), r"regions is 3"),
        (lambda: federated.HierarchicalPartitioner(federated.IidPartitioner(2), 7), r"7 partitions of 6 rows"),
        (
            lambda: federated.DriftPartitioner(federated.IidPartitioner(2), federated.IidPartitioner(3), 5),
            r"from 2 partitions to 3",
        ),
        (lambda: federated.FeatureShiftPartitioner(federated.IidPartitioner(2), 5), r"shift is 5"),
        (
            lambda: federated.FeatureShiftPartitioner(federated.IidPartitioner(2), federated.FeatureNoise("label", 2)),
            r"FeatureNoise needs a Hugging Face dataset",
        ),
    ],
)
def test_the_error_names_value_rule_and_remedy(make, text):
    with pytest.raises(DataError, match=text):
        divide(make())


@pytest.mark.parametrize("number", [-1, 2, 10**30, 1.0, "0", None, True])
def test_a_partition_that_does_not_exist_is_refused(number):
    for partitioner in (federated.DirichletPartitioner(2, "label", 1.0, 0), federated.VerticalEvenPartitioner(2)):
        divide(partitioner)
        with pytest.raises(DataError, match=r"^partition_id is "):
            partitioner.load_partition(number)


@pytest.mark.parametrize("region", [-1, 2, "0", None, 0.5])
def test_a_region_that_does_not_exist_is_refused(region):
    tree = federated.HierarchicalPartitioner(federated.IidPartitioner(2), 2)
    divide(tree)
    with pytest.raises(DataError, match=r"^region is .*, and must be a number from 0 to 1"):
        tree.load_region(region)


def test_a_million_ids_are_neither_classes_nor_clients():
    million = Labels(np.arange(10**6), range(10**6), "id")
    with pytest.raises(DataError, match=r"'id' has 1000000 different values, and at most 10000 are taken for classes"):
        partition.dirichlet(million, num_partitions=2, alpha=1.0)
    with pytest.raises(DataError, match=r"'id' has 1000000 different ids, .* GroupedNaturalIdPartitioner"):
        partition.natural(million)
    with pytest.raises(DataError, match=r"1000000 groups of 1.* at least 2"):
        partition.groups_of(million, group_size=1, mode=Remainder.ALLOW_SMALLER)
    assert len(partition.groups_of(million, group_size=1000, mode=Remainder.STRICT)) == 1000


def test_one_partitioner_does_not_divide_two_datasets():
    clients = federated.IidPartitioner(2)
    tree = federated.HierarchicalPartitioner(federated.IidPartitioner(2), lambda region: clients)
    with pytest.raises(DataError, match=r"already divides another dataset"):
        divide(tree)
