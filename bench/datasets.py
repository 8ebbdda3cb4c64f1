"""Federated data: what a client waits for its part, beside flwr-datasets where its Python is given.

    python bench/datasets.py [--with-flwr PYTHON] [--only NAME ...] [--write docs/bench-datasets.md]

Each row is measured in processes of its own, after their imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from partitioners import Figure, every_partitioner
from report import cells, machine, number

ROWS, PARTITIONS, REPEATS = 1_000_000, 1_000, 5
WARM = 0.020  # seconds
ABOUT = Path(__file__).parent / "about_datasets.md"

MAKE = """
import sys, numpy as np
folder, rows = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(0)
x, y = random.random((rows, 16), np.float32), random.integers(0, 10, rows)
np.savez(folder + "/rows.npz", x=x, label=y)
import datasets
saved = datasets.Dataset.from_dict({"x": x, "label": y})
datasets.DatasetDict({"train": saved}).save_to_disk(folder + "/rows")
saved.to_parquet(folder + "/rows.parquet")
np.savez(folder + "/pictures.npz", image=random.integers(0, 256, (60_000, 28, 28), np.uint8), label=y[:60_000])
"""

OURS = """
import json, sys, time
import numpy as np
import datasets, umbel.datasets.array_dataset
from umbel.datasets import DirichletPartitioner, FederatedDataset, IidPartitioner
source, how, number, label = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
match how:
    case "opened":
        source = datasets.load_from_disk(source)
    case "arrays":
        with np.load(source) as file:
            source = {name: file[name] for name in file}
    case "frame":
        import pandas
        with np.load(source) as file:
            source = pandas.DataFrame({"label": file["label"], "first": file["x"][:, 0]})
settings = {"num_partitions": number, "partition_by": label, "alpha": 0.5, "min_partition_size": 1}
partitioner = DirichletPartitioner(**settings)
began = time.perf_counter()
fds = FederatedDataset(dataset=source, partitioners={"train": partitioner})
part = fds.load_partition(number - 1)
first = time.perf_counter() - began
part[0]
began = time.perf_counter()
for partition in range(number):
    fds.load_partition(partition)
print(json.dumps([first, (time.perf_counter() - began) / number]))
"""

FLWR = """
import json, sys, time, datasets
from flwr_datasets.partitioner import DirichletPartitioner
number = int(sys.argv[2])
partitioner = DirichletPartitioner(num_partitions=number, partition_by="label", alpha=0.5, min_partition_size=1)
began = time.perf_counter()
partitioner.dataset = datasets.load_from_disk(sys.argv[1])["train"].shuffle(seed=42)
part = partitioner.load_partition(number - 1)
first = time.perf_counter() - began
began = time.perf_counter()
for partition in range(20):
    partitioner.load_partition(partition)
print(json.dumps([first, (time.perf_counter() - began) / 20]))
"""

# What, file, how it becomes a source, partitions, labels.
SOURCES = (
    ("a Hugging Face dataset, opened", "rows", "opened", PARTITIONS, "label"),
    ("a folder of `save_to_disk`, by path", "rows", "path", PARTITIONS, "label"),
    ("an .npz, by path", "rows.npz", "path", PARTITIONS, "label"),
    ("numpy arrays, 72 MB", "rows.npz", "arrays", PARTITIONS, "label"),
    ("a pandas frame, 12 MB", "rows.npz", "frame", PARTITIONS, "label"),
    ("a .parquet, by path", "rows.parquet", "path", PARTITIONS, "label"),
    ("an .npz of 60,000 pictures", "pictures.npz", "path", PARTITIONS, "label"),
    ('"mnist"', "mnist", "name", PARTITIONS, "label"),
    ('"randhie", 20,190 rows, 100 partitions', "randhie", "name", 100, "y"),
)


def warm_partition(flwr: str | None) -> list[Figure]:
    """Construction and one of 1,000 Dirichlet partitions of 1 M rows, in a process that was not the first to ask."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        _run(sys.executable, MAKE, folder, str(ROWS), cache=folder)
        theirs: list[float] | list[None] = [None, None]
        if flwr is not None:
            theirs = json.loads(_run(flwr, FLWR, f"{folder}/rows", str(PARTITIONS), cache=folder))
        for what, name, how, number_, label in SOURCES:
            source = name if how == "name" else f"{folder}/{name}"
            asked = [OURS, source, how, str(number_), label]
            first = json.loads(_run(sys.executable, *asked, cache=folder))[0]
            again = [json.loads(_run(sys.executable, *asked, cache=folder)) for _ in range(REPEATS)]
            warm, next_one = (min(times) for times in zip(*again, strict=True))
            beside = theirs if name == "rows" else [None, None]
            if (name, how) != ("rows", "path"):  # whose rows the one before has kept
                figures.append(Figure(f"{what}: first on the machine", first, beside[0], None))
            figures.append(Figure(f"{what}: another process", warm, beside[0], WARM))
            figures.append(Figure(f"{what}: another partition, same process", next_one, beside[1], WARM))
    return figures


IMPORT = """
import json, time
began = time.perf_counter()
import datasets
theirs = time.perf_counter() - began
import umbel.datasets.array_dataset
print(json.dumps([theirs, time.perf_counter() - began]))
"""


def imports(_: str | None) -> list[Figure]:
    """What a process pays before it can ask."""
    with tempfile.TemporaryDirectory() as folder:
        times = [json.loads(_run(sys.executable, IMPORT, cache=folder)) for _ in range(REPEATS)]
    theirs, both = (min(taken) for taken in zip(*times, strict=True))
    return [
        Figure("`import datasets`, Hugging Face's", theirs, None, None),
        Figure("and `umbel.datasets`", both - theirs, None, None),
    ]


FIGURES: dict[str, tuple[str, Callable[[str | None], list[Figure]]]] = {
    "partitioners": ("Who gets what of 1 M labels, 1,000 partitions unless it says otherwise", every_partitioner),
    "warm": ("Construction of a `FederatedDataset` and `load_partition`, 1 M rows, 1,000 partitions", warm_partition),
    "imports": ("Imports, which are not in the other figures", imports),
}


def _run(python: str, code: str, *arguments: str, cache: str) -> str:
    """What it prints, with a cache of its own, in which this machine's data sets are."""
    home = Path(cache) / "umbel"
    home.mkdir(exist_ok=True)
    from umbel.datasets.cache import data_dir

    for name in ("mnist", "randhie"):
        if not (home / name).exists():
            (home / name).symlink_to(data_dir().resolve() / name)
    env = os.environ | {"UMBEL_DATA": str(home), "HF_HOME": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([python, "-c", code, *arguments], env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def columns(figure: Figure) -> list[str]:
    targets = [] if figure.target is None else [f"≤ {number(1000 * figure.target, 'ms')}"]
    memory = ""
    if figure.megabytes is not None:
        memory = number(figure.megabytes, "MB")
        targets.append("≤ 100 MB")
    theirs, ratio = "", ""
    if figure.theirs is not None:
        slow = "> " if figure.gave_up else ""
        theirs = slow + number(1000 * figure.theirs, "ms")
        ratio = f"{figure.ours / figure.theirs:.{4 if figure.ours > 0.001 * figure.theirs else 6}f}"
        ratio = f"< {ratio}" if figure.gave_up else ratio
    verdict = "" if figure.met is None else "met" if figure.met else "missed"
    return [figure.what, number(1000 * figure.ours, "ms"), memory, theirs, ratio, ", ".join(targets), verdict]


HEAD = ["", "umbel", "memory", "flwr-datasets", "umbel / flwr", "target", ""]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What a client waits for its part of the data.")
    parser.add_argument("--with-flwr", metavar="PYTHON", help="the Python of an environment with flwr-datasets")
    parser.add_argument("--only", nargs="+", choices=FIGURES, metavar="NAME", help=f"some of: {', '.join(FIGURES)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="writes the page with the table")
    options = parser.parse_args(arguments)
    lines = [ABOUT.read_text().rstrip(), "", machine("bench/datasets.py", arguments), ""]
    lines += [cells(HEAD), cells([":--", *["--:"] * 4, ":--", ":--"])]
    met = True
    for name in options.only or FIGURES:
        title, measure = FIGURES[name]
        print(f"{name}: {title}", flush=True)
        lines.append(cells([f"**{title}**", *[""] * 6]))
        for figure in measure(options.with_flwr):
            print("  " + "   ".join(filter(None, columns(figure))), flush=True)
            lines.append(cells(columns(figure)))
            met = met and figure.met is not False
    if options.write is not None:
        lines[2] += f" Load average at the end: {os.getloadavg()[1]:.0f}."
        options.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
