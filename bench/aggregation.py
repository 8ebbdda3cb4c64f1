"""What aggregators take for updates of 25 M float32 parameters (100 MB each) in files: python bench/aggregation.py

Each figure is a process of its own: with numpy and, where numba is installed, compiled. The floor is reading the same
updates once, in the same process just before. Wall-clock and CPU seconds; how much the resident memory grew beyond what was
there before the rule began. `--with-flwr PYTHON` runs flwr 1.41.0 on the same numbers, which it has in memory from the
start. `--write` puts the table into docs/aggregation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from report import cells, machine

ROOT = Path(__file__).parent.parent
TIMES = "\N{MULTIPLICATION SIGN}"
PAGE = ROOT / "docs" / "aggregation.md"


class Limit(NamedTuple):
    """What a way of doing it may take; None: as much as it likes."""

    seconds: float | None = None
    floors: float | None = None

    def __str__(self) -> str:
        return f"≤ {self.seconds:g} s" if self.seconds else f"≤ {self.floors:g} {TIMES} floor" if self.floors else ""

    def met(self, sample: dict[str, float]) -> bool:
        within = self.seconds is None or sample["seconds"] <= self.seconds
        return within and (self.floors is None or sample["seconds"] <= self.floors * sample["floor"])


class Figure(NamedTuple):
    """`rule` is ours, `flwr` calls its function, "" where it has none."""

    what: str
    updates: int
    rule: str
    numpy: Limit = Limit()
    compiled: Limit = Limit()
    flwr: str = ""


FIGURES = [
    Figure("mean", 10, "mean()", Limit(floors=10.0), Limit(floors=3.0), "aggregate(results)"),
    Figure("median", 20, "median()", Limit(3.5), Limit(1.0), "aggregate_median(results)"),
    Figure(
        "trimmed mean, 4 of each side", 20, "trimmed_mean(0.2)", Limit(6.0), flwr="aggregate_trimmed_avg(results, 0.2)"
    ),
    Figure("Krum, f = 4", 20, "krum(4)", Limit(2.0), flwr="aggregate_krum(results, 4, 0)"),
    Figure("Multi-Krum, f = 4", 20, "krum(4, None)", flwr="aggregate_krum(results, 4, 16)"),
    Figure("Bulyan, f = 4", 20, "bulyan(4)"),
    Figure("geometric median, 8 iterations", 20, "geometric_median(8)"),
    Figure("centered clipping, 3 iterations", 20, "centered_clipping(10.0, 3)"),
    Figure("median after nearest-neighbour mixing", 20, "nearest_neighbours(median(), 4)"),
    Figure("median of buckets of 2", 20, "bucketed(median(), 2)"),
]
MEMORY = 200.0  # MB beyond the process as it was

OURS = """
import json, os, resource, sys, time
from pathlib import Path
import numpy as np
from umbel.aggregators import *
from umbel.aggregators.compiled import gate
from umbel.fold import Contribution, combine, in_memory
from umbel.optimizers import sgd
from umbel.params import Params
from umbel.runtime.contents import FileContents
from umbel.runtime.process import prepare
from umbel.runtime.spread import spread

folder, updates, rule, way = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3]), sys.argv[4]
prepare()  # as a server does
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

def combined(model, parts):
    return sum(len(block) for block in combine(model[0], model, parts, aggregator=rule, optimizer=sgd(),
                                               chunk=1, spread=spread))

start = peak()
gate.worth = 2**63
if way == "compiled":
    small = Params.of([np.ones(1024, np.float32)])
    model = small.schema, in_memory(small)
    assert gate.open()
    combined(model, [Contribution(i, *model, 1) for i in range(updates)])
begun = clocks()
total = combined((base.schema, base.source), parts)
done = clocks()
assert total == base.schema.nbytes
print(json.dumps({"floor": read[0] - before[0], "loading": begun[0] - read[0], "seconds": done[0] - begun[0],
                  "cpu": done[1] - begun[1], "memory": peak() - start}))
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


def measured(python: str, program: str, *arguments: str, repeats: int, **environment: str) -> dict[str, float]:
    """The fastest of some runs, each in a new process."""
    samples = []
    for _ in range(repeats):
        done = subprocess.run(
            [python, "-c", program, *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        samples.append(json.loads(done.stdout))
    return min(samples, key=lambda sample: sample["seconds"])


HEAD = (
    "", "updates", "numpy, s", "CPU s", f"{TIMES} floor", "extra MB", "compiled, s", "CPU s", f"{TIMES} floor", "extra MB",
    "flwr, s", "target", "",
)  # fmt: skip


def row(figure: Figure, ways: dict[str, dict[str, float]], theirs: float | None) -> tuple[list[str], bool]:
    """A line of the table, and whether all of it is as it should be. `ways` has what "numpy" took, and "compiled"."""
    limits = {"numpy": figure.numpy, "compiled": figure.compiled}
    met = all(limits[way].met(sample) and sample["memory"] <= MEMORY for way, sample in ways.items())
    columns = [figure.what, str(figure.updates)]
    for way in limits:
        sample = ways.get(way)
        columns += ["", "", "", ""] if sample is None else [
            f"{sample['seconds']:.2f}",
            f"{sample['cpu']:.2f}",
            f"{sample['seconds'] / sample['floor']:.1f}",
            f"{sample['memory']:.0f}",
        ]  # fmt: skip
    said = [f"{way} {limit}" for way, limit in limits.items() if str(limit) and way in ways]
    columns += ["" if theirs is None else f"{theirs:.1f}", ", ".join([*said, f"≤ {MEMORY:g} MB"])]
    return [*columns, "met" if met else "missed"], met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--with-flwr", metavar="PYTHON", help="the Python of an environment with flwr 1.41.0")
    parser.add_argument("--floats", type=int, default=25_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="figures whose name has one of these words")
    parser.add_argument("--write", action="store_true", help="the table into docs/aggregation.md")
    options = parser.parse_args()
    try:
        numba = version("numba")
    except PackageNotFoundError:
        numba = ""
    lines = [cells(HEAD), cells([":--", *["--:"] * 10, ":--", ":--"])]
    print(*lines, sep="\n")
    missed, cold, warm = False, [], []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        write_updates(Path(folder), max(figure.updates for figure in FIGURES), options.floats)
        if numba:
            for updates, rule in ((10, "mean()"), (20, "median()")):
                arguments, empty = (folder, str(updates), rule, "compiled"), f"{folder}/compiled-{updates}"
                first = measured(sys.executable, OURS, *arguments, repeats=1, NUMBA_CACHE_DIR=empty)
                cold.append(first["loading"])
        for figure in FIGURES:
            if options.only and not any(word in figure.what for word in options.only):
                continue
            ways = {
                way: measured(
                    sys.executable, OURS, folder, str(figure.updates), figure.rule, way, repeats=options.repeats
                )
                for way in ("numpy", *(["compiled"] if numba else []))
            }
            theirs = None
            if options.with_flwr and figure.flwr:
                theirs = measured(options.with_flwr, FLWR, folder, str(figure.updates), figure.flwr, repeats=1)["seconds"]
            if numba:
                warm.append(ways["compiled"]["loading"])
            columns, met = row(figure, ways, theirs)
            missed = missed or not met
            lines.append(cells(columns))
            print(lines[-1], flush=True)
    if options.write:
        about = (
            f"{machine('bench/aggregation.py', sys.argv[1:])}{f', numba {numba}' if numba else ''}; load average {load:.1f} "
            f"when it began. {options.floats:,} float32 parameters, the fastest of {options.repeats} runs; the updates are "
            "in files, in the page cache."
        )
        PAGE.write_text(page(about, lines, cold, warm))
    return int(missed)


FLOOR = """\
The floor is reading the updates of that row once. Extra memory is how much the process grew as it combined: the updates are
never in memory as a whole. flwr's are in memory before its clock starts."""

COMPILED = """\
**Compiled** is with numba (`pip install 'umbel[compiled]'`): the same bits. Its extra memory has numba itself in it. To load
numba took {usually} here, and {first} the first time, when it compiles; that is not in the table. It is loaded once
numpy has been given about as much to do as that is worth (`src/umbel/aggregators/compiled.py`), so a small model and a short
run never wait for it. Rules that are mostly inner products gain little. NUMBA_DISABLE_JIT=1 leaves everything to numpy."""


def page(about: str, table: list[str], cold: list[float], warm: list[float]) -> str:
    """docs/aggregation.md. `cold` and `warm` are seconds that loading numba took, before and after it had compiled."""
    parts = ["# What aggregation takes", about, "\n".join(table), FLOOR]
    if cold and warm:
        usually, first = (f"{min(seconds):.1f} to {max(seconds):.1f} s" for seconds in (warm, cold))
        parts.append(COMPILED.format(usually=usually, first=first))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
