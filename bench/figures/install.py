"""How many packages come with `pip install`, counted in environments that have them: no network."""

from __future__ import annotations

import subprocess

from measure import Row, Settings, at_most
from processes import PROGRAMS


def measure(settings: Settings) -> list[Row]:
    flwr = _count(settings.flwr, "flwr") if settings.flwr else None
    return [Row("packages", "", _count(settings.python, "umbel"), flwr=flwr, targets=(at_most(20, ""),))]


def _count(python: str, package: str) -> int:
    command = [python, str(PROGRAMS / "closure.py"), package]
    return len(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
