"""Data for a federation: one data set, divided among clients.

>>> FederatedDataset.__name__
'FederatedDataset'

Light to import: the `datasets` package (`pip install 'umbel[datasets]'`) is imported when data is first asked for.
"""

from umbel.datasets.federated import FederatedDataset
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

__all__ = [
    "ContinuousPartitioner",
    "DirichletPartitioner",
    "DirichletSizePartitioner",
    "DistributionPartitioner",
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
    "NaturalIdPartitioner",
    "Partitioner",
    "PathologicalPartitioner",
    "RowPartitioner",
    "ShardPartitioner",
    "SizePartitioner",
    "SquarePartitioner",
    "VerticalEvenPartitioner",
    "VerticalSizePartitioner",
]
