"""What a client can tell about the process that it runs in. Standard library only."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["notes"]


def notes(config: dict) -> dict:
    """When, where, and the peak of memory until now; nothing unless `config` asks for it."""
    if not config.get("notes"):
        return {}
    return {"at": time.monotonic(), "process": os.getpid(), "peak": _peak()}


def _peak() -> int:
    """The most bytes of this process that were resident at any time; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:  # no Linux
        return 0
    return 1024 * int(status.split("VmHWM:", 1)[1].split(None, 1)[0])
