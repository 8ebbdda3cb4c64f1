"""Who gets which rows: pure functions from labels (or ids, values, sizes) and a seed to index arrays.

Each gives one `int64` array per partition; no row is in two of them. The same arguments give the same arrays in every
process, on every machine and every numpy.
"""

from umbel.datasets.partition.by_size import dirichlet_sizes, exponential_units, in_units, lognormal_sizes, of_sizes
from umbel.datasets.partition.composed import divided, drifted, nested
from umbel.datasets.partition.continuous import continuous
from umbel.datasets.partition.dirichlet import dirichlet, inner_dirichlet
from umbel.datasets.partition.few_classes import (
    classes_at_random,
    classes_in_turn,
    distribution,
    first_class_in_turn,
    pathological,
    shards,
)
from umbel.datasets.partition.labels import Labels, encoded
from umbel.datasets.partition.natural import Remainder, grouped, groups_of, natural, numbered_together
from umbel.datasets.partition.rows import IndexArray, even, mixed, shuffled

__all__ = [
    "IndexArray",
    "Labels",
    "Remainder",
    "classes_at_random",
    "classes_in_turn",
    "continuous",
    "dirichlet",
    "dirichlet_sizes",
    "distribution",
    "divided",
    "drifted",
    "encoded",
    "even",
    "exponential_units",
    "first_class_in_turn",
    "grouped",
    "groups_of",
    "in_units",
    "inner_dirichlet",
    "lognormal_sizes",
    "mixed",
    "natural",
    "nested",
    "numbered_together",
    "of_sizes",
    "pathological",
    "shards",
    "shuffled",
]
