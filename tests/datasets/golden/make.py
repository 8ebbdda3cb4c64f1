"""Takes the vectors that Umbel's partitioners are held against, where flwr-datasets' definition is deterministic.

    python -m venv /tmp/flwr-datasets && /tmp/flwr-datasets/bin/pip install flwr-datasets==0.6.1
    /tmp/flwr-datasets/bin/python tests/datasets/golden/make.py > tests/datasets/golden/flwr_datasets.json

Runs in an environment of its own, without Umbel. Each case: class, keyword arguments, column and the rows of each partition.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from flwr_datasets import metrics, partitioner, preprocessor

ROWS = 211


def data() -> Dataset:
    """Columns that a reader can check: row i of `row` is i."""
    rows = np.arange(ROWS)
    return Dataset.from_dict(
        {
            "row": rows.tolist(),
            "label": (rows // 4 * 5 % 6).tolist(),
            "word": [f"w{(number * 5) % 6}" for number in rows.tolist()],
            "speaker": [f"s{(number * number) % 23}" for number in rows.tolist()],
            "measure": ((rows * 37) % 211 / 8).tolist(),
        },
        features=Features(
            {
                "row": Value("int64"),
                "label": ClassLabel(num_classes=6),
                "word": Value("string"),
                "speaker": Value("string"),
                "measure": Value("float64"),
            }
        ),
    )


TABLE = [[1 + (label + column) % 3 for column in range(4)] for label in range(6)]
CASES: list[tuple[str, dict[str, object]]] = [
    ("IidPartitioner", {"num_partitions": 7}),
    *[(name, {"num_partitions": parts}) for name in ("LinearPartitioner", "SquarePartitioner") for parts in (1, 2, 5, 8)],
    *[("ExponentialPartitioner", {"num_partitions": parts}) for parts in (1, 2, 3, 4, 5)],
    ("SizePartitioner", {"partition_sizes": [100, 1, 50]}),
    ("NaturalIdPartitioner", {"partition_by": "speaker"}),
    ("NaturalIdPartitioner", {"partition_by": "label"}),
    *[
        (
            "GroupedNaturalIdPartitioner",
            {"partition_by": "speaker", "group_size": size, "mode": mode, "sort_unique_ids": sort},
        )
        for size in (1, 3, 5)
        for mode in ("allow-smaller", "allow-bigger", "drop-reminder")
        for sort in (False, True)
    ],
    ("GroupedNaturalIdPartitioner", {"partition_by": "label", "group_size": 3, "mode": "strict"}),
    ("GroupedNaturalIdPartitioner", {"partition_by": "label", "group_size": 50}),
    *[
        (
            "PathologicalPartitioner",
            {
                "num_partitions": parts,
                "partition_by": column,
                "num_classes_per_partition": each,
                "class_assignment_mode": "deterministic",
                "shuffle": False,
            },
        )
        for parts in (3, 10)
        for each in (1, 2, 6)
        for column in ("label", "word")
    ],
    (
        "PathologicalPartitioner",
        {
            "num_partitions": 8,
            "partition_by": "label",
            "num_classes_per_partition": 1,
            "class_assignment_mode": "first-deterministic",
            "shuffle": False,
        },
    ),
    ("ShardPartitioner", {"num_partitions": 1, "partition_by": "label", "num_shards_per_partition": 1, "shuffle": False}),
    *[
        (
            "DistributionPartitioner",
            {
                "distribution_array": TABLE,
                "num_partitions": 12,
                "num_unique_labels_per_partition": 2,
                "partition_by": "label",
                "preassigned_num_samples_per_label": 0,
                "rescale": False,
                "shuffle": False,
            },
        )
    ],
    *[
        ("ContinuousPartitioner", {"num_partitions": parts, "partition_by": "measure", "strictness": 1.0, "shuffle": False})
        for parts in (1, 4, 9)
    ],
]
# Where rows are at random, sizes are not.
SIZES: list[tuple[str, dict[str, object]]] = [
    ("ShardPartitioner", {"num_partitions": 5, "partition_by": "label", "num_shards_per_partition": 3}),
    ("ShardPartitioner", {"num_partitions": 5, "partition_by": "label", "num_shards_per_partition": 2, "shard_size": 9}),
    ("ShardPartitioner", {"num_partitions": 5, "partition_by": "label", "shard_size": 9}),
    ("InnerDirichletPartitioner", {"partition_sizes": [50, 3, 0, 100], "partition_by": "label", "alpha": 0.5}),
    ("DirichletPartitioner", {"num_partitions": 1, "partition_by": "label", "alpha": 0.5}),
]
ROLES = {"active_party_columns": "label", "shared_columns": ["row"], "shuffle": False}
VERTICAL: list[tuple[str, dict[str, object]]] = [
    *[
        ("VerticalEvenPartitioner", {"num_partitions": 2, "active_party_columns_mode": mode, **ROLES})
        for mode in ("add_to_last", "add_to_first", "create_as_first", "create_as_last", "add_to_all", 1)
    ],
    ("VerticalEvenPartitioner", {"num_partitions": 2, "drop_columns": "word", "shuffle": False}),
    ("VerticalSizePartitioner", {"partition_sizes": [1, 0, 2], **ROLES}),
    ("VerticalSizePartitioner", {"partition_sizes": [0.5, 0.25, 0.25], "shuffle": False}),
]


def made(name: str, arguments: dict[str, object]) -> partitioner.Partitioner:
    arguments = dict(arguments)
    if "distribution_array" in arguments:
        arguments["distribution_array"] = np.array(arguments["distribution_array"])
    one = getattr(partitioner, name)(**arguments)
    one.dataset = data()
    return one


def parts(name: str, arguments: dict[str, object]) -> list[Dataset]:
    one = made(name, arguments)
    return [one.load_partition(number) for number in range(one.num_partitions)]


def main() -> None:
    warnings.simplefilter("ignore")
    iid = made("IidPartitioner", {"num_partitions": 3})
    divided = preprocessor.Divider({"a": 0.5, "b": 0.3}, divide_split="all")({"all": data()})
    vectors = {
        "data": data().to_dict(),
        "rows": [[name, arguments, [list(part["row"]) for part in parts(name, arguments)]] for name, arguments in CASES],
        "sizes": [[name, arguments, [len(part) for part in parts(name, arguments)]] for name, arguments in SIZES],
        "columns": [
            [name, arguments, [part.column_names for part in parts(name, arguments)]] for name, arguments in VERTICAL
        ],
        "counts": {
            column: metrics.compute_counts(iid, column).sort_index(axis=1).to_dict(orient="split")
            for column in ("label", "word")
        },
        "frequencies": metrics.compute_frequencies(iid, "label").to_dict(orient="split"),
        "divided": {name: list(rows["row"]) for name, rows in divided.items()},
    }
    json.dump(vectors, sys.stdout)
    print()


if __name__ == "__main__":
    main()
