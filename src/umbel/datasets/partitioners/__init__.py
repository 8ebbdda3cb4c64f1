"""The partitioners that people name. Each holds its settings; the arithmetic is in `umbel.datasets.partition`."""

from umbel.datasets.partitioners.arguments import whole
from umbel.datasets.partitioners.base import Partitioner, RowPartitioner, checked_id
from umbel.datasets.partitioners.by_label import (
    ContinuousPartitioner,
    DirichletPartitioner,
    DistributionPartitioner,
    InnerDirichletPartitioner,
    PathologicalPartitioner,
    ShardPartitioner,
)
from umbel.datasets.partitioners.by_size import (
    DirichletSizePartitioner,
    ExponentialPartitioner,
    IdToSizeFncPartitioner,
    IidPartitioner,
    LinearPartitioner,
    LogNormalSizePartitioner,
    SizePartitioner,
    SquarePartitioner,
)
from umbel.datasets.partitioners.composed import (
    DriftPartitioner,
    FeatureNoise,
    FeatureShiftPartitioner,
    HierarchicalPartitioner,
    LocalSplitPartitioner,
)
from umbel.datasets.partitioners.natural import GroupedNaturalIdPartitioner, NaturalIdPartitioner
from umbel.datasets.partitioners.vertical import VerticalEvenPartitioner, VerticalSizePartitioner

__all__ = [
    "ContinuousPartitioner",
    "DirichletPartitioner",
    "DirichletSizePartitioner",
    "DistributionPartitioner",
    "DriftPartitioner",
    "ExponentialPartitioner",
    "FeatureNoise",
    "FeatureShiftPartitioner",
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
    "checked_id",
    "whole",
]
