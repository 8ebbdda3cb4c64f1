"""Small inputs and a name for each partition of them, for Umbel's own vectors: pure functions and numpy, no datasets.

python tests/datasets/golden/cases.py > tests/datasets/golden/umbel.json      (only when a definition changes on purpose)
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256

import numpy as np

from umbel.datasets import partition
from umbel.rng import frozen_stream

ROWS = 997


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, ids and measurements of ROWS rows, from frozen draws."""
    rng = frozen_stream(0, "golden")
    labels = rng.randint(0, 7, size=ROWS, dtype=np.int64)
    ids = rng.randint(0, 40, size=ROWS, dtype=np.int64)
    return labels, ids, rng.random_sample(ROWS)


def cases() -> dict[str, list[np.ndarray]]:
    """The partitions, by name."""
    labels, ids, values = inputs()
    each = {"num_partitions": 14, "seed": 3}
    halves = (partition.even(ROWS, 14), partition.dirichlet(labels, alpha=0.3, min_partition_size=1, **each))
    table = 1.0 + np.arange(7 * 4).reshape(7, 4) % 5
    return {
        "continuous": partition.continuous(values, strictness=0.5, **each),
        "dirichlet 0.02": partition.dirichlet(labels, alpha=0.02, min_partition_size=0, **each),
        "dirichlet 0.5": partition.dirichlet(labels, alpha=0.5, **each),
        "dirichlet 100": partition.dirichlet(labels, alpha=100, **each),
        "dirichlet balanced": partition.dirichlet(labels, alpha=0.5, self_balancing=True, min_partition_size=1, **each),
        "dirichlet sizes": partition.dirichlet_sizes(ROWS, alpha=0.3, min_partition_size=2, **each),
        "distribution": partition.distribution(
            labels,
            distribution_array=table,
            num_unique_labels_per_partition=2,
            preassigned_num_samples_per_label=3,
            **each,
        ),
        "divided": partition.divided(np.arange(ROWS), [0.7, 0.2, 0.1], seed=3, partition_id=5),
        "drifted": partition.drifted(*halves, step=3, num_steps=10, seed=3),
        "exponential": partition.in_units(ROWS, partition.exponential_units(6)),
        "first in turn": partition.pathological(labels, partition.first_class_in_turn(14, 7, 3, seed=3)),
        "grouped": partition.grouped(ids, partition.groups_of(ids, group_size=6, mode=partition.Remainder.ALLOW_SMALLER)),
        "inner dirichlet": partition.inner_dirichlet(labels, partition_sizes=[70] * 14, alpha=0.1, seed=3),
        "log-normal sizes": partition.lognormal_sizes(ROWS, sigma=2.0, min_partition_size=2, **each),
        "mixed": partition.mixed(partition.even(ROWS, 14), seed=3, scheme="golden"),
        "pathological": partition.pathological(labels, partition.classes_at_random(14, 7, 2, seed=3)),
        "shards": partition.shards(labels, shard_size=30, keep_incomplete_shard=True, **each),
    }


def digest(parts: list[np.ndarray]) -> str:
    """The sizes of the partitions and all their rows, in order."""
    sizes = np.array([len(part) for part in parts], "<i8")
    return sha256(sizes.tobytes() + np.concatenate(parts).astype("<i8").tobytes()).hexdigest()


if __name__ == "__main__":
    json.dump({name: digest(parts) for name, parts in cases().items()}, sys.stdout, indent=1)
    print()
