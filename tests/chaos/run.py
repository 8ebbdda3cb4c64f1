"""The whole crash matrix, for `make chaos`: every failpoint, every pass, every strategy, SQLite and PostgreSQL.

    python tests/chaos/run.py [--only NAME] [--passes N] [--at-once N] [--write docs/reliability.md]

Each failpoint lets 0, 1, 2, … passes through, until the run ends before it is reached. Prints a line per trial that is not
fine, and the table; exits with 1 where anything was lost, counted twice or different.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system"), str(HERE.parent)]

from children import Zygote  # noqa: E402
from federations import Federation, launch, wait_for  # noqa: E402
from matrix import FAILPOINTS, STRATEGIES, Failpoint, Result, Trial, reference_in, run_trial  # noqa: E402

from pages import machine, put  # noqa: E402
from postgres import Postgres, find_server  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="failpoints whose names begin so")
    options.add_argument("--strategies", help=f"some of these, with commas: {', '.join(STRATEGIES)}")
    options.add_argument("--passes", type=int, default=12, help="the most passes of a failpoint that are tried")
    options.add_argument("--at-once", type=int, default=max(4, 2 * (os.cpu_count() or 2)), help="trials at the same time")
    options.add_argument("--write", type=Path, help="the page whose table is replaced")
    chosen = options.parse_args()
    strategies = chosen.strategies.split(",") if chosen.strategies else list(STRATEGIES)
    began = time.monotonic()

    folder = Path(tempfile.mkdtemp(prefix="umbel-chaos-"))
    zygote, programs = Zygote(), find_server()
    postgres = None if programs is None else Postgres(programs)
    if postgres is None:
        print("No PostgreSQL server is installed (scripts/postgres does that): only SQLite is tried")
    try:
        urls = {"SQLite": None} | ({"PostgreSQL": postgres.database()} if postgres is not None else {})
        bits = reference_in(folder, zygote.launch)
        points = [point for point in FAILPOINTS if point.name.startswith(chosen.only or "")]
        jobs = [(point, strategy, database) for database in urls for strategy in strategies for point in points]

        def job(asked: tuple[Failpoint, str, str]) -> list[Result]:
            point, strategy, database = asked
            return chain(point, strategy, database, folder, chosen.passes, zygote.launch, urls[database], bits)

        results: list[Result] = []
        with ThreadPoolExecutor(chosen.at_once) as workers:
            for number, done in enumerate(workers.map(job, jobs), 1):
                results += done
                for result in done:
                    if not result.fine:
                        print(f"{result.trial}: lost {result.lost}, duplicated {result.duplicated}", *result.wrong, sep="\n")
                print(f"\r{number} of {len(jobs)} chains, {len(results)} trials", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        resumed = None if chosen.only else resume_of_a_large_model(folder)
    finally:
        zygote.close()
        if postgres is not None:
            postgres.close()
        shutil.rmtree(folder, ignore_errors=True)

    lines = report(points, results, time.monotonic() - began, resumed, chosen.passes)
    print("\n".join(lines))
    if chosen.write:
        put(chosen.write, "crash matrix", ["", *lines])
    never = [point.name for point in points if not any(r.trial.failpoint is point for r in results)]
    if never:
        print(f"never reached: {', '.join(never)}")
    sys.exit(bool(never) or not all(result.fine for result in results))


def chain(
    point: Failpoint,
    strategy: str,
    database: str,
    folder: Path,
    most: int,
    start: Callable,
    url: str | None,
    bits: Callable[..., bytes],
) -> list[Result]:
    """Trials of one failpoint with more and more passes, until it is reached no more."""
    done = []
    for passes in range(max(most, point.passes + 1)):
        if most <= passes < point.passes:
            continue
        trial = Trial(point, passes, strategy, database)
        place = folder / f"{database}-{strategy}-{point.name}-{passes}"
        result = run_trial(trial, place, start, url, bits)
        if not result.reached and result.fine:
            break
        done.append(result)
        if result.fine:
            shutil.rmtree(place, ignore_errors=True)
    return done


def resume_of_a_large_model(folder: Path) -> tuple[float, float]:
    """Seconds from the start of a process to the resumed round, for a model of 100 MB: in all, and without imports."""
    federation = Federation(folder / "large", start=launch)
    size = 25_000_000
    try:
        first = federation.server(size=size, central=False)
        federation.clients("a", "b", size=size, hold=["fit.2"])
        federation.reached("a", "fit.2", 120)
        federation.reached("b", "fit.2", 120)
        federation.open("a", "fit.2")
        wait_for(lambda: "Sent fit of round 2" in "".join(p.text for p in federation.programs if p.name == "a"), 120, "sent")
        first.kill()
        begun = time.monotonic()
        second = federation.server(size=size, central=False)
        second.says("Resuming run", 60)
        imported = time.monotonic()
        second.says("Resumed in round 2", 60)
        return time.monotonic() - begun, time.monotonic() - imported
    finally:
        federation.end()


def report(
    points: list[Failpoint], results: list[Result], seconds: float, resumed: tuple[float, float] | None, most: int
) -> list[str]:
    """The table, with a line per failpoint."""
    by_point: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_point[result.trial.failpoint.name].append(result)
    databases = sorted({result.trial.database for result in results}, reverse=True)
    strategies = [name for name in STRATEGIES if any(result.trial.strategy == name for result in results)]
    lines = [
        f"{len(results):,} trials in {seconds / 60:.0f} minutes ({machine()}): {', '.join(strategies)}; "
        f"{' and '.join(databases)}; of each failpoint the first {most} passes, and the one that `make test-all` takes.",
        "",
        "| failpoint | what is true there | trials | lost | duplicated | different bits | otherwise wrong |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for point in points:
        mine = by_point[point.name]
        wrong = sum(bool(r.wrong) and not (r.lost or r.duplicated or r.different) for r in mine)
        counts = [
            len(mine),
            sum(r.lost for r in mine),
            sum(r.duplicated for r in mine),
            sum(r.different for r in mine),
            wrong,
        ]
        lines.append(f"| `{point.name}` | {point.holds} | {' | '.join(map(str, counts))} |")
    total = [
        len(results),
        sum(r.lost for r in results),
        sum(r.duplicated for r in results),
        sum(r.different for r in results),
        sum(bool(r.wrong) and not (r.lost or r.duplicated or r.different) for r in results),
    ]
    lines += [f"| **all** | | {' | '.join(f'**{count}**' for count in total)} |", ""]
    if resumed is not None:
        lines += [
            f"A server with a model of 100 MB was back in its round {resumed[0]:.1f} s after its process was started "
            f"({resumed[1]:.1f} s after its imports).",
            "",
        ]
    return lines


if __name__ == "__main__":
    main()
