"""The ordered mean of ten updates of 100 MB from files, beside reading the same files once."""

from __future__ import annotations

import time

from measure import Row, Sample, Settings, alternating
from processes import workshop

DEADLINE = 120.0


def measure(settings: Settings) -> list[Row]:
    floats = settings.scaled(25_000_000)
    taken = alternating(settings.repeats, umbel=lambda: _run(settings.python, floats))["umbel"]
    return [
        Row("the mean, written to a file", "s", taken["mean"], taken["read"]),
        Row("peak memory", "MB", taken["peak"]),
    ]


def _run(python: str, floats: int) -> Sample:
    with workshop() as shop:
        program = shop.start(python, "mean.py", name="mean", updates=10, floats=floats)
        report = program.result(time.monotonic() + DEADLINE)
    read, combine, end = (seconds for _, seconds, _ in report["moments"])
    return {"read": combine - read, "mean": end - combine, "peak": report["peak"] / 1e6}
