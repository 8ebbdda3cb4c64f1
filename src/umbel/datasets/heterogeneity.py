"""How different the clients' labels are: counts and frequencies as tables, and measures in one number.

The measures take counts, shape (partitions, labels): an array, or what `compute_counts` answers. Partitions without rows
are left out. pandas is imported by `compute_counts` and `compute_frequencies` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from umbel.datasets.column import labels_of
from umbel.datasets.partition.labels import Labels, classes_of, encoded
from umbel.datasets.partition.rows import IndexArray
from umbel.datasets.partitioners.arguments import count
from umbel.datasets.partitioners.base import Partitioner, RowPartitioner
from umbel.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "compute_counts",
    "compute_frequencies",
    "effective_classes",
    "jensen_shannon",
    "label_counts",
    "mean_total_variation",
]

Counts: TypeAlias = Union[npt.NDArray[np.generic], Sequence[Sequence[float]], "pd.DataFrame"]


def label_counts(labels: npt.NDArray[np.generic] | Labels, parts: Sequence[IndexArray]) -> npt.NDArray[np.int64]:
    """How many rows of each label each partition has. shape (partitions, labels), the labels ascending.

    >>> label_counts(np.array(["a", "b", "a"]), [np.array([0, 2]), np.array([1])]).tolist()
    [[2, 0], [0, 1]]
    """
    found = encoded(labels)
    classes = len(found.values)
    rows = [np.bincount(found.codes[part], minlength=classes) for part in parts]
    return np.array(rows, dtype=np.int64).reshape(len(parts), classes)


def compute_counts(
    partitioner: Partitioner, column_name: str, verbose_names: bool = False, max_num_partitions: int | None = None
) -> pd.DataFrame:
    """How often each value of a column occurs in each partition, as a table.

    Rows are partitions, "Partition ID"; columns are the values, ascending; for a `ClassLabel` all of its classes, under
    their names where `verbose_names`, after values that are none of them, such as -1 for rows without a label. As in
    flwr-datasets, which leaves the columns in order of appearance in some cases.

    Raises DataError where there is no such column, where it has more than 10,000 values, and where pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise DataError("compute_counts needs pandas, which is not installed. Run: pip install pandas") from error
    limit = partitioner.num_partitions
    if max_num_partitions is not None:
        limit = min(limit, count("max_num_partitions", max_num_partitions, of="how many partitions are counted"))
    found = classes_of(labels_of(partitioner.dataset, column_name))
    if isinstance(partitioner, RowPartitioner):
        table = label_counts(found, partitioner.indices[:limit])
    else:
        table = np.array([_counts_of(partitioner, number, column_name, found) for number in range(limit)])
    frame = pd.DataFrame(table, index=pd.RangeIndex(limit, name="Partition ID"), columns=list(found.values))
    names = getattr(getattr(partitioner.dataset, "features", {}).get(column_name), "names", None)
    if names is not None:
        named = dict(enumerate(names))
        frame = frame.reindex(columns=[*(value for value in frame.columns if value not in named), *named], fill_value=0)
        if verbose_names:
            frame = frame.rename(columns=named)
    return frame


def compute_frequencies(
    partitioner: Partitioner, column_name: str, verbose_names: bool = False, max_num_partitions: int | None = None
) -> pd.DataFrame:
    """As `compute_counts`, each row divided by its sum. NaN for a partition without rows."""
    counts = compute_counts(partitioner, column_name, verbose_names, max_num_partitions)
    return counts.div(counts.sum(axis=1), axis=0)


def _counts_of(partitioner: Partitioner, number: int, column_name: str, whole: Labels) -> npt.NDArray[np.int64]:
    part = labels_of(partitioner.load_partition(number), column_name)
    place = {value: at for at, value in enumerate(whole.values)}
    counts = np.zeros(len(whole.values), dtype=np.int64)
    for value, size in zip(part.values, part.sizes, strict=True):
        counts[place[value]] = size
    return counts


def mean_total_variation(counts: Counts) -> float:
    """The mean over partitions of ½ Σ |p − q|, p a partition's label frequencies, q those of all rows together.

    0: all alike. 1 − 1/partitions where no two share a label and all are of one size; 1 is never reached. The share of its
    rows that a partition would have to swap for the mix of all.

    >>> mean_total_variation([[5, 5], [5, 5]]), mean_total_variation([[10, 0], [0, 10]])
    (0.0, 0.5)
    """
    p, q = _frequencies(counts)
    return float(np.mean(0.5 * np.abs(p - q).sum(axis=1)))


def jensen_shannon(counts: Counts) -> float:
    """The mean over partitions of the Jensen-Shannon divergence of a partition's labels from those of all rows, in bits.

    0: all alike; below 1. Lin (1991), "Divergence measures based on the Shannon entropy", equation 3.1 to 4.1.

    >>> jensen_shannon([[5, 5], [5, 5]]), round(jensen_shannon([[10, 0], [0, 10]]), 3)
    (0.0, 0.311)
    """
    p, q = _frequencies(counts)
    divergence = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return float(np.mean(np.maximum(divergence, 0.0)))


def effective_classes(counts: Counts) -> float:
    """The mean over partitions of 2^entropy: how many equally frequent labels would be as varied as a partition's.

    1: one label each. Hill (1973), "Diversity and evenness", the number of order 1.

    >>> effective_classes([[5, 5], [10, 0]])
    1.5
    """
    return float(np.mean(2.0 ** _entropy(_frequencies(counts)[0])))


def _frequencies(counts: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each partition that has rows, shape (partitions, labels), and of all rows, shape (labels,)."""
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any() or table.sum() == 0:
        raise DataError(
            f"Counts of shape {table.shape} do not say how different partitions are: give a row per partition and a column "
            "per label, finite numbers from 0 up, with a row somewhere. compute_counts answers such a table."
        )
    sizes = table.sum(axis=1, keepdims=True)
    some = table[sizes[:, 0] > 0]
    return some / sizes[sizes[:, 0] > 0], table.sum(axis=0) / table.sum()


def _entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """In bits, along the last axis; 0 · log 0 is 0."""
    found: npt.NDArray[np.float64] = -np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=-1)
    return found
