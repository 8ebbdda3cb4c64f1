"""How updates become one.

An `Aggregator` adds them up one after another, and partial results merge: the weighted mean, and whatever else is a sum. A
`Rule` needs all of them at once: the robust rules.
"""

from umbel.aggregators.accumulators import Wire
from umbel.aggregators.base import Aggregator, chunk_size, fold
from umbel.aggregators.fair import fair
from umbel.aggregators.mean import mean
from umbel.aggregators.robust import (
    bucketed,
    bulyan,
    centered_clipping,
    fltrust,
    geometric_median,
    krum,
    median,
    nearest_neighbours,
    trimmed_mean,
)
from umbel.aggregators.rule import Cohort, Rule

__all__ = [
    "Aggregator",
    "Cohort",
    "Rule",
    "Wire",
    "bucketed",
    "bulyan",
    "centered_clipping",
    "chunk_size",
    "fair",
    "fltrust",
    "fold",
    "geometric_median",
    "krum",
    "mean",
    "median",
    "nearest_neighbours",
    "trimmed_mean",
]
