"""Data for a federation: one data set, divided among clients.

>>> FederatedDataset.__name__
'FederatedDataset'

Light to import: the `datasets` package (`pip install 'umbel[datasets]'`) is imported when data is first asked for.
"""

from umbel.datasets.federated import FederatedDataset
from umbel.datasets.heterogeneity import (
    compute_counts,
    compute_frequencies,
    effective_classes,
    jensen_shannon,
    mean_total_variation,
)
from umbel.datasets.partitioners import (
    ContinuousPartitioner,
    DirichletPartitioner,
    DirichletSizePartitioner,
    DistributionPartitioner,
    DriftPartitioner,
    ExponentialPartitioner,
    FeatureNoise,
    FeatureShiftPartitioner,
    GroupedNaturalIdPartitioner,
    HierarchicalPartitioner,
    IdToSizeFncPartitioner,
    IidPartitioner,
    InnerDirichletPartitioner,
    LinearPartitioner,
    LocalSplitPartitioner,
    LogNormalSizePartitioner,
    NaturalIdPartitioner,
    Partitioner,
    PathologicalPartitioner,
    RowPartitioner,
    ShardPartitioner,
    SizePartitioner,
    SquarePartitioner,
    VerticalEvenPartitioner,
    VerticalSizePartitioner,
)
from umbel.datasets.plot import (
    plot_comparison_label_distribution,
    plot_comparison_label_distributions,
    plot_label_distributions,
)
from umbel.datasets.preprocess import Divider, Merger
from umbel.datasets.view import View

__all__ = [
    "ContinuousPartitioner",
    "DirichletPartitioner",
    "DirichletSizePartitioner",
    "DistributionPartitioner",
    "Divider",
    "DriftPartitioner",
    "ExponentialPartitioner",
    "FeatureNoise",
    "FeatureShiftPartitioner",
    "FederatedDataset",
    "GroupedNaturalIdPartitioner",
    "HierarchicalPartitioner",
    "IdToSizeFncPartitioner",
    "IidPartitioner",
    "InnerDirichletPartitioner",
    "LinearPartitioner",
    "LocalSplitPartitioner",
    "LogNormalSizePartitioner",
    "Merger",
    "NaturalIdPartitioner",
    "Partitioner",
    "PathologicalPartitioner",
    "RowPartitioner",
    "ShardPartitioner",
    "SizePartitioner",
    "SquarePartitioner",
    "VerticalEvenPartitioner",
    "VerticalSizePartitioner",
    "View",
    "compute_counts",
    "compute_frequencies",
    "effective_classes",
    "jensen_shannon",
    "mean_total_variation",
    "plot_comparison_label_distribution",
    "plot_comparison_label_distributions",
    "plot_label_distributions",
]
