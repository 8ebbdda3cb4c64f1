"""Measures Umbel beside floors of the same run, and beside flwr where its Python is given.

    python bench/run.py [--with-flwr PYTHON] [--only NAME ...] [--quick] [--write docs/bench.md]

Every process that it starts is on 127.0.0.1, and gone when it ends.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from figures import FIGURES
from measure import Row, Settings
from processes import BenchError
from report import line, page

__all__ = ["Figures", "main"]

Figures = dict[str, tuple[str, Callable[[Settings], list[Row]]]]  # name → title, and what measures it


def parse(figures: Figures, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Every figure as a ratio to a floor that is measured in the same run.")
    parser.add_argument("--with-flwr", metavar="PYTHON", help="the Python of an environment with flwr 1.41.0")
    parser.add_argument("--only", nargs="+", choices=figures, metavar="NAME", help=f"some of: {', '.join(figures)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, once: to see that all of it works")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured, in turn; medians are shown")
    parser.add_argument("--write", type=Path, metavar="FILE", help="writes the page with the table")
    return parser.parse_args(arguments)


def main(program: str, figures: Figures, arguments: list[str]) -> int:
    """Measures `figures`, and says so; `program` is the script that has them, beside a page `about_*.md`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which ends what was started
    options = parse(figures, arguments)
    settings = Settings(sys.executable, options.with_flwr, options.quick, 1 if options.quick else options.repeats)
    measured: dict[str, list[Row]] = {}
    failed = []
    for name in options.only or figures:
        title, measure = figures[name]
        print(f"{name}: {title}", flush=True)
        try:
            measured[title] = measure(settings)
        except (BenchError, subprocess.SubprocessError) as error:
            failed.append(name)
            print(f"  failed: {error}", flush=True)
            continue
        for row in measured[title]:
            print(line(row), flush=True)
    if options.write is not None and not failed:
        about = Path(__file__).parent / f"about_{Path(program).stem}.md"
        text = page(about, f"bench/{Path(program).name}", arguments, measured, options.quick)
        options.write.write_text(text, encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(__file__, FIGURES, sys.argv[1:]))
