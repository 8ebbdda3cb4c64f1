"""What aggregators take for updates of 25 M float32 parameters (100 MB each) in files: python bench/aggregation.py

Each figure is a process of its own. The floor is reading the same updates once, in the same process just before. Wall-clock
and CPU seconds; how much the resident memory grew beyond what was there before the rule began. `--with-flwr PYTHON` runs
flwr 1.41.0 on the same numbers, which it has in memory from the start. `--write` puts the table into docs/aggregation.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMES = "\N{MULTIPLICATION SIGN}"
PAGE = ROOT / "docs" / "aggregation.md"

# what, updates, the rule, limit in seconds, limit in floors, flwr's function (None: it has none)
FIGURES = [
    ("mean", 10, "mean()", None, 10.0, "aggregate(results)"),
    ("median", 20, "median()", 3.5, None, "aggregate_median(results)"),
    ("trimmed mean, 4 of each side", 20, "trimmed_mean(0.2)", 6.0, None, "aggregate_trimmed_avg(results, 0.2)"),
    ("Krum, f = 4", 20, "krum(4)", 2.0, None, "aggregate_krum(results, 4, 0)"),
    ("Multi-Krum, f = 4", 20, "krum(4, None)", None, None, "aggregate_krum(results, 4, 16)"),
    ("Bulyan, f = 4", 20, "bulyan(4)", None, None, None),
    ("geometric median, 8 iterations", 20, "geometric_median(8)", None, None, None),
    ("centered clipping, 3 iterations", 20, "centered_clipping(10.0, 3)", None, None, None),
    ("median after nearest-neighbour mixing", 20, "nearest_neighbours(median(), 4)", None, None, None),
    ("median of buckets of 2", 20, "bucketed(median(), 2)", None, None, None),
]
MEMORY = 200.0  # MB beyond the process as it was

OURS = """
import json, os, resource, sys, time
from pathlib import Path
import numpy as np
from umbel.aggregators import *
from umbel.combine import Contribution, combine
from umbel.optimizers import sgd
from umbel.runtime.contents import FileContents
from umbel.runtime.spread import spread
from umbel.transforms import identity

folder, updates, rule = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
contents = FileContents(Path(folder))
base = contents.open("base")
files = [contents.open(f"update-{i}") for i in range(updates)]
parts = [Contribution(i, file.schema, file.source, 1) for i, file in enumerate(files)]

def clocks():
    return time.perf_counter(), time.process_time()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

buffer = memoryview(bytearray(1 << 18))
before = clocks()
for file in files:
    at = 0
    while at < file.size:
        size = min(len(buffer), file.size - at)
        file.read_into(at, buffer[:size])
        at += size
read = clocks()
start = peak()
total = 0
for block in combine(base.schema, (base.schema, base.source), parts, aggregator=rule, optimizer=sgd(), transform=identity(),
                     chunk=1, spread=spread):
    total += len(block)
done = clocks()
assert total == base.schema.nbytes
print(json.dumps({"floor": read[0] - before[0], "seconds": done[0] - read[0], "cpu": done[1] - read[1],
                  "floor_cpu": read[1] - before[1], "memory": peak() - start}))
"""

FLWR = """
import json, sys, time
from pathlib import Path
import numpy as np
from flwr.server.strategy.aggregate import *
folder, updates, call = sys.argv[1], int(sys.argv[2]), sys.argv[3]
results = []
for i in range(updates):
    data = (Path(folder) / f"update-{i}.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    results.append(([np.frombuffer(data, np.float32, offset=begin)], 1))
before = time.perf_counter(), time.process_time()
eval(call)
print(json.dumps({"seconds": time.perf_counter() - before[0], "cpu": time.process_time() - before[1]}))
"""


def write_updates(folder: Path, count: int, floats: int) -> None:
    import numpy as np

    from umbel.runtime.contents import FileContents, write_content
    from umbel.wire import Schema, TensorSpec

    contents, schema = FileContents(folder), Schema((TensorSpec("0", "F32", (floats,)),))
    for i in range(-1, count):
        draw = np.random.default_rng(i + 1)
        pieces = (
            (draw.standard_normal(min(1 << 20, floats - at), np.float32) * np.float32(0.1)).view(np.uint8).data
            for at in range(0, floats, 1 << 20)
        )
        write_content(contents, "base" if i < 0 else f"update-{i}", schema, pieces)


def measured(python: str, program: str, *arguments: str, repeats: int) -> dict[str, float]:
    """The fastest of some runs, each in a new process."""
    samples = []
    for _ in range(repeats):
        done = subprocess.run([python, "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        samples.append(json.loads(done.stdout))
    return min(samples, key=lambda sample: sample["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--with-flwr", metavar="PYTHON", help="the Python of an environment with flwr 1.41.0")
    parser.add_argument("--floats", type=int, default=25_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="figures whose name has one of these words")
    parser.add_argument("--write", action="store_true", help="the table into docs/aggregation.md")
    options = parser.parse_args()
    head = f"| | updates | umbel, s | CPU s | {TIMES} floor | extra MB | flwr, s | target | |"
    lines = [head, "|:--|--:|--:|--:|--:|--:|--:|:--|:--|"]
    print(*lines, sep="\n")
    missed = False
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        write_updates(Path(folder), max(figure[1] for figure in FIGURES), options.floats)
        for what, updates, rule, seconds, floors, call in FIGURES:
            if options.only and not any(word in what for word in options.only):
                continue
            ours = measured(sys.executable, OURS, folder, str(updates), rule, repeats=options.repeats)
            theirs = None
            if options.with_flwr and call:
                theirs = measured(options.with_flwr, FLWR, folder, str(updates), call, repeats=1)["seconds"]
            ratio = ours["seconds"] / ours["floor"]
            met = [ours["memory"] <= MEMORY]
            met += [ours["seconds"] <= seconds] if seconds else []
            met += [ratio <= floors] if floors else []
            missed = missed or not all(met)
            target = f"≤ {seconds:g} s, " if seconds else f"≤ {floors:g} {TIMES} floor, " if floors else ""
            verdict = "met" if all(met) else "missed"
            lines.append(
                f"| {what} | {updates} | {ours['seconds']:.2f} | {ours['cpu']:.2f} | {ratio:.1f} | {ours['memory']:.0f} "
                f"| {'' if theirs is None else f'{theirs:.1f}'} | {target}≤ {MEMORY:g} MB | {verdict} |"
            )
            print(lines[-1], flush=True)
    if options.write:
        PAGE.write_text(page(lines, options))
    return int(missed)


def page(table: list[str], options: argparse.Namespace) -> str:
    """docs/aggregation.md."""
    about = (
        f"{datetime.date.today()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, numpy {version('numpy')}; "
        f"load {os.getloadavg()[0]:.1f} when it began; {options.floats:,} float32 parameters, the fastest of "
        f"{options.repeats} runs; updates in files, in the page cache."
    )
    return "\n".join(
        [
            "# What aggregation takes",
            "",
            f"`python {' '.join(['bench/aggregation.py', *sys.argv[1:]])}` wrote this page. {about}",
            "",
            *table,
            "",
            "The floor is reading the updates of that row once. Extra memory is how much the process grew as it combined:",
            "the updates are never in memory as a whole. flwr's are in memory before its clock starts.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
