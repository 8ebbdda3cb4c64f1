"""A figure of `bench/datasets.py`: what each partitioner takes to divide 1 M labels among 1,000 clients.

Each is a process of its own: the processor time of `indices` from a Hugging Face dataset in memory, and in a second run the
peak of what Python and numpy allocate. flwr-datasets is asked for one partition, which makes it compute all. Vertical
partitioners divide 1,000 columns, whatever the rows.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import NamedTuple

__all__ = ["Figure", "every_partitioner"]

ROWS, PARTITIONS = 1_000_000, 1_000
SECONDS, MEGABYTES = 1.0, 100
PATIENCE = 10.0  # seconds of the processor for flwr-datasets


class Figure(NamedTuple):
    """Times in seconds; `theirs` is flwr-datasets'."""

    what: str
    ours: float
    theirs: float | None
    target: float | None
    megabytes: float | None = None

    @property
    def gave_up(self) -> bool:
        """Whether flwr-datasets would have taken longer than `theirs`."""
        return self.theirs == PATIENCE

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.ours <= self.target and (self.megabytes is None or self.megabytes <= MEGABYTES)


PROGRAM = """
import json, logging, resource, sys, time, tracemalloc, warnings
import numpy as np
import datasets
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
who, name, arguments, rows, patience = json.loads(sys.argv[1])
rng = np.random.RandomState(0)
data = datasets.Dataset.from_dict({
    "label": rng.randint(0, 10, rows), "value": rng.random_sample(rows),
    "id": [f"speaker-{number}" for number in rng.randint(0, max(rows // 1000, 1), rows)],
})
if who == "umbel":
    import umbel.datasets as home
    from umbel.datasets.column import labels_of
    labels_of(data.select(range(100)), "label")  # imports what is imported once
else:
    import flwr_datasets.partitioner as home
number = arguments.get("num_partitions", 0)
match name:
    case "VerticalEvenPartitioner" | "VerticalSizePartitioner":
        data = datasets.Dataset.from_dict({f"column {one}": [0, 1] for one in range(1000)})
    case "IdToSizeFncPartitioner":
        arguments["partition_id_to_size_fn"] = np.sqrt
    case "DistributionPartitioner":
        arguments["distribution_array"] = np.random.RandomState(4).lognormal(0, 2, (10, number // 5))
    case "HierarchicalPartitioner":
        clients = lambda region: home.DirichletPartitioner(number // 10, "label", 0.5)
        arguments = {"regions": home.IidPartitioner(10), "clients": clients}
    case "DriftPartitioner":
        after = home.PathologicalPartitioner(number, "label", 2)
        arguments = {"before": home.IidPartitioner(number), "after": after, "num_rounds": 10}
    case "LocalSplitPartitioner":
        arguments = {"clients": home.IidPartitioner(number), "splits": {"train": 0.8, "test": 0.2}}
    case "FeatureShiftPartitioner":
        arguments = {"clients": home.IidPartitioner(number), "shift": home.FeatureNoise("value", number)}

def divide():
    partitioner = getattr(home, name)(**arguments)
    partitioner.dataset = data
    began = time.process_time()
    limit = int(began + patience) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    partitioner.indices if hasattr(type(partitioner), "indices") else partitioner.load_partition(0)
    return time.process_time() - began

seconds, peak = divide(), 0
if who == "umbel":
    tracemalloc.start()
    divide()
    peak = tracemalloc.get_traced_memory()[1]
print(json.dumps([seconds, peak / 1e6]))
"""

NUMBER = {"num_partitions": PARTITIONS}
LABEL = {**NUMBER, "partition_by": "label"}
SIZES = {"partition_sizes": [ROWS // PARTITIONS] * PARTITIONS}
# Sizes that grow by a factor e leave room for 8 partitions, squares for 100.
BOTH: dict[str, dict[str, object]] = {
    "IidPartitioner": {**NUMBER},
    "LinearPartitioner": {**NUMBER},
    "SquarePartitioner": {"num_partitions": 100},
    "ExponentialPartitioner": {"num_partitions": 8},
    "SizePartitioner": {**SIZES},
    "IdToSizeFncPartitioner": {**NUMBER},
    "NaturalIdPartitioner": {"partition_by": "id"},
    "GroupedNaturalIdPartitioner": {"partition_by": "id", "group_size": 1},
    "DirichletPartitioner": {**LABEL, "alpha": 0.5},
    "InnerDirichletPartitioner": {**SIZES, "partition_by": "label", "alpha": 0.5},
    "PathologicalPartitioner": {**LABEL, "num_classes_per_partition": 2},
    "ShardPartitioner": {**LABEL, "num_shards_per_partition": 2},
    "DistributionPartitioner": {**LABEL, "num_unique_labels_per_partition": 2, "preassigned_num_samples_per_label": 5},
    "ContinuousPartitioner": {**NUMBER, "partition_by": "value", "strictness": 0.5},
    "VerticalEvenPartitioner": {**NUMBER},
    "VerticalSizePartitioner": {"partition_sizes": [1] * PARTITIONS},
}
OURS_ALONE = (
    "DirichletSizePartitioner",
    "LogNormalSizePartitioner",
    "DriftPartitioner",
    "HierarchicalPartitioner",
    "LocalSplitPartitioner",
    "FeatureShiftPartitioner",
)
NOTES = {"SquarePartitioner": ", 100 partitions", "ExponentialPartitioner": ", 8 partitions"}


def every_partitioner(flwr: str | None) -> list[Figure]:
    """A figure per partitioner; `theirs` is the limit where flwr-datasets takes longer."""
    figures = []
    for name, arguments in {**BOTH, **{name: dict(NUMBER) for name in OURS_ALONE}}.items():
        seconds, megabytes = _measured(sys.executable, "umbel", name, arguments, patience=600)
        theirs = _measured(flwr, "flwr", name, arguments, patience=PATIENCE)[0] if flwr and name in BOTH else None
        figures.append(Figure(name + NOTES.get(name, ""), seconds, theirs, SECONDS, megabytes))
    return figures


def _measured(python: str, who: str, name: str, arguments: dict[str, object], *, patience: float) -> tuple[float, float]:
    """Seconds and megabytes; `patience` where it takes more seconds of the processor."""
    asked = json.dumps([who, name, arguments, ROWS, patience])
    done = subprocess.run([python, "-c", PROGRAM, asked], capture_output=True, text=True)
    if done.returncode == -signal.SIGXCPU:
        return patience, 0.0
    if done.returncode:
        raise SystemExit(f"{name} failed in {python}:\n{done.stderr[-2000:]}")
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes
