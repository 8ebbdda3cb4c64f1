"""What measuring programs write into the docs: the lines between two marks of a page."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

__all__ = ["machine", "put"]


def put(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replaces what is between `<!-- mark -->` and `<!-- /mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no {begin} … {end}")
    page.write_text("\n".join([f"{head}{begin}", *lines, f"{end}{tail}"]))


def machine() -> str:
    """Where and when something was measured, and how busy that machine was in the last quarter of an hour."""
    day, cores = datetime.datetime.now(datetime.UTC).date(), os.cpu_count()
    what = f"{cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{day}, {what}, load average {os.getloadavg()[2]:.0f}"
