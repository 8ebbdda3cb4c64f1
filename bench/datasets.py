"""Federated data: what a client waits for its part, beside flwr-datasets where its Python is given.

    python bench/datasets.py [--with-flwr PYTHON] [--only NAME ...]

A figure is a function that returns rows: what, ours, flwr's or None, target (seconds). Each is measured in processes of its
own, after their imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from partitioners import every_partitioner

Row: TypeAlias = tuple[str, float, float | None, float]

ROWS, PARTITIONS, REPEATS = 1_000_000, 1_000, 5

MAKE = """
import sys, numpy as np
rows = int(sys.argv[2])
random = np.random.default_rng(0)
x, y = random.random((rows, 16), np.float32), random.integers(0, 10, rows)
np.savez(sys.argv[1] + "/rows.npz", x=x, label=y)
import datasets
datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": x, "label": y})}).save_to_disk(sys.argv[1] + "/rows")
"""

OURS = """
import sys, time
from umbel.datasets import DirichletPartitioner, FederatedDataset
source, opened = sys.argv[1], sys.argv[3] == "opened"
if source.endswith("rows"):
    import datasets, umbel.datasets.array_dataset
    source = datasets.load_from_disk(source) if opened else source
partitioner = DirichletPartitioner(num_partitions=int(sys.argv[2]), partition_by="label", alpha=0.5, min_partition_size=1)
began = time.perf_counter()
part = FederatedDataset(dataset=source, partitioners={"train": partitioner}).load_partition(7)
print(time.perf_counter() - began)
part[0]
"""

FLWR = """
import sys, time, datasets
from flwr_datasets.partitioner import DirichletPartitioner
partitioner = DirichletPartitioner(num_partitions=int(sys.argv[2]), partition_by="label", alpha=0.5, min_partition_size=1)
began = time.perf_counter()
partitioner.dataset = datasets.load_from_disk(sys.argv[1])["train"].shuffle(seed=42)
part = partitioner.load_partition(7)
print(time.perf_counter() - began)
part[0]
"""


def warm_partition(flwr: str | None) -> list[Row]:
    """One of 1,000 Dirichlet partitions of 1 M rows, in a process that was not the first to ask."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        _run(sys.executable, MAKE, folder, str(ROWS), cache=folder)
        theirs = None
        if flwr is not None:
            theirs = float(_run(flwr, FLWR, f"{folder}/rows", str(PARTITIONS), cache=folder))
        sources = (
            (".npz, mapped", "rows.npz", "path"),
            ("Hugging Face dataset", "rows", "opened"),
            ("and datasets.load_from_disk", "rows", "path"),
        )
        for what, name, how in sources:
            asked = [OURS, f"{folder}/{name}", str(PARTITIONS), how]
            first = float(_run(sys.executable, *asked, cache=folder))
            again = [float(_run(sys.executable, *asked, cache=folder)) for _ in range(REPEATS)]
            if what != "and datasets.load_from_disk":  # whose rows the one before has kept
                rows.append((f"load_partition, {what}: first on the machine", first, theirs, 2.0))
            rows.append((f"load_partition, {what}: warm", statistics.median(again), theirs, 0.020))
    return rows


FIGURES: dict[str, Callable[[str | None], list[Row]]] = {"partitioners": every_partitioner, "warm": warm_partition}


def _run(python: str, code: str, *arguments: str, cache: str) -> str:
    env = os.environ | {"UMBEL_DATA": str(Path(cache) / "umbel"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([python, "-c", code, *arguments], env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="What a client waits for its part of the data.")
    parser.add_argument("--with-flwr", metavar="PYTHON", help="the Python of an environment with flwr-datasets")
    parser.add_argument("--only", nargs="+", choices=FIGURES, metavar="NAME", help=f"some of: {', '.join(FIGURES)}")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    rows = [row for name in options.only or FIGURES for row in FIGURES[name](options.with_flwr)]
    if options.json:
        print(json.dumps(rows))
        return 0
    for what, ours, theirs, target in rows:
        verdict = "met" if ours <= target else "MISSED"
        ratio = "" if theirs is None else f"   {ours / theirs:.4f} of flwr's {theirs * 1000:.0f} ms"
        print(f"{what:<66} {ours * 1000:8.1f} ms   target {target * 1000:.0f} ms: {verdict}{ratio}")
    return int(any(ours > target for _, ours, _, target in rows))


if __name__ == "__main__":
    sys.exit(main())
