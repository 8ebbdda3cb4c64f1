"""What every measured program does: it notes moments, reports its peak of memory, and ends when the bench does.

Standard library only: it runs in flwr's environment, too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Report", "run"]


def _end_with_parent() -> None:
    """Ends this process at once when its standard input is closed, which the death of the bench does."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would be held at the end of the interpreter
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Report:
    """Moments of this process: name, seconds on a clock, and seconds of CPU time (user and system) spent until then."""

    def __init__(self) -> None:
        self._moments: list[tuple[str, float, float]] = []

    def mark(self, name: str) -> None:
        self._moments.append((name, time.perf_counter(), time.process_time()))

    def write(self, path: str, **more: object) -> None:
        Path(path).write_text(json.dumps({"moments": self._moments, "peak": _peak(), "cpu": time.process_time(), **more}))


def _peak() -> int:
    """The most bytes that were resident at any time."""
    try:
        # not ru_maxrss, which begins with the peak of the process that started this one
        return 1024 * int(_after("VmHWM:", Path("/proc/self/status").read_text()))
    except FileNotFoundError:  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _after(word: str, text: str) -> str:
    return text.split(word, 1)[1].split(None, 1)[0]


def run(main: Callable[[dict[str, object]], None]) -> None:
    """Runs a program that takes one argument: its options, as JSON."""
    _end_with_parent()
    main(json.loads(sys.argv[-1]))
