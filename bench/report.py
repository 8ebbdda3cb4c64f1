"""Figures as text: lines for a terminal, a table for the docs."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
from importlib.metadata import version
from pathlib import Path

import psutil
from measure import TIMES, Row

__all__ = ["cells", "line", "machine", "number", "page"]

QUICK = " Sizes are a tenth of what the titles say: a quick run."
HEAD = ("", "umbel", "floor", f"{TIMES} floor", "flwr", f"{TIMES} flwr", "target", "")


def line(row: Row) -> str:
    """One figure on one line."""
    parts = [f"{number(row.ours, row.unit):>10}"]
    if row.floor:
        parts.append(f"{row.ours / row.floor:.2f} {TIMES} floor ({number(row.floor, row.unit)})")
    if row.flwr:
        parts.append(f"{row.ours / row.flwr:.3f} {TIMES} flwr ({number(row.flwr, row.unit)})")
    if row.targets:
        parts.append(f"target {_targets(row)}: {row.verdict or 'not judged'}")
    return f"  {row.what:<44} {'   '.join(parts)}"


def page(about: Path, program: str, arguments: list[str], measured: dict[str, list[Row]], quick: bool) -> str:
    """A page of docs: what `about` says, and the table that `program` has measured, by title."""
    lines = [about.read_text().rstrip(), "", machine(program, arguments) + (QUICK if quick else ""), ""]
    lines += [cells(HEAD), cells([":--", *["--:"] * 5, ":--", ":--"])]
    for title, rows in measured.items():
        lines.append(cells([f"**{title}**", *[""] * 7]))
        lines += [cells(_columns(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _columns(row: Row) -> list[str]:
    return [
        row.what,
        number(row.ours, row.unit),
        number(row.floor, row.unit),
        f"{row.ours / row.floor:.2f}" if row.floor else "",
        number(row.flwr, row.unit),
        f"{row.ours / row.flwr:.3f}" if row.flwr else "",
        _targets(row),
        row.verdict,
    ]


def cells(texts: tuple[str, ...] | list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(texts)} |"


def _targets(row: Row) -> str:
    return ", ".join(target.text for target in row.targets)


def number(value: float | None, unit: str) -> str:
    """A figure to three digits or so; nothing for None."""
    if value is None:
        return ""
    digits = 0 if value >= 100 or value == int(value) else 2 if value >= 0.1 else 4
    return f"{value:,.{digits}f} {unit}".rstrip()


def machine(program: str, arguments: list[str]) -> str:
    """Where and how a page was measured, in a line."""
    paths = {"--with-flwr": "PYTHON", "--write": "FILE"}  # where they lie is nobody's business
    shown = [paths.get(before, word) for before, word in zip(["", *arguments], arguments, strict=False)]
    command = shlex.join(["python", program, *shown])
    parts = [
        f"{os.cpu_count()} cores ({_processor()})",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"{platform.system()}",
        f"Python {platform.python_version()}",
        f"numpy {version('numpy')}",
        datetime.date.today().isoformat(),
    ]
    return f"{', '.join(parts)}. `{command}`"


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:  # no Linux
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
