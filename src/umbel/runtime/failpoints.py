"""Named places where a process can be made to die: how crash tests kill at exactly one point.

`failpoint("journal.before-append")` does nothing, unless the environment says `UMBEL_FAILPOINT=journal.before-append`: then
the process kills itself there with SIGKILL, which nothing can catch, clean up after or delay. `journal.before-append:3` lets
three passes through first; `journal.before-append:3@0.1` also holds the thread there for a tenth of a second, in which the
other threads can say what they should not. docs/reliability.md lists every failpoint, and what is true of a run at each.
"""

from __future__ import annotations

import os
import re
import signal
import threading

__all__ = ["FAILPOINT", "arm", "failpoint"]

FAILPOINT = "UMBEL_FAILPOINT"

_armed: str | None = None
_passes = 0
_hold = 0.0  # seconds


def arm(setting: str | None) -> None:
    """Arms the failpoint of "NAME", "NAME:PASSES" or "NAME:PASSES@SECONDS"; None disarms. Raises `ValueError` for others."""
    global _armed, _passes, _hold
    match = re.fullmatch(r"([a-z.-]*)(?::(\d+))?(?:@(\d+\.?\d*))?", setting or "")
    if match is None:
        raise ValueError(f"{FAILPOINT}={setting}: write NAME, NAME:PASSES or NAME:PASSES@SECONDS")
    _armed, _passes, _hold = match[1] or None, int(match[2] or 0), float(match[3] or 0)


def failpoint(name: str) -> None:
    """Dies here, where this failpoint is armed. Otherwise costs 30 ns: a call, and a look at a global that is None."""
    if _armed is not None:
        _reach(name)


def _reach(name: str) -> None:
    global _passes
    if name != _armed:
        return
    if _passes:
        _passes -= 1
        return
    threading.Event().wait(_hold)
    os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(FAILPOINT))
