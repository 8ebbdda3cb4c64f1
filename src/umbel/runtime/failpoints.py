"""Named places where a process can be made to die: how crash tests kill at exactly one point.

`failpoint("journal.before-append")` does nothing, unless the environment says
`UMBEL_FAILPOINT=journal.before-append`: then the process kills itself there with SIGKILL, which nothing can catch, clean up
after or delay. `UMBEL_FAILPOINT=journal.before-append:3` lets three passes through first. docs/reliability.md lists every
failpoint, and what is true of a run at each.
"""

from __future__ import annotations

import os
import signal

__all__ = ["FAILPOINT", "arm", "failpoint"]

FAILPOINT = "UMBEL_FAILPOINT"

_armed: str | None = None
_passes = 0


def arm(setting: str | None) -> None:
    """Arms the failpoint of "NAME" or "NAME:PASSES"; None disarms. Raises `ValueError` for passes that are no number."""
    global _armed, _passes
    name, _, passes = (setting or "").partition(":")
    if passes and not passes.isdecimal():
        raise ValueError(f"{FAILPOINT}={setting}: after the colon comes how many passes are let through, such as {name}:3")
    _armed, _passes = name or None, int(passes or 0)


def failpoint(name: str) -> None:
    """Dies here, where this failpoint is armed. Otherwise costs 30 ns: a call, and a look at a global that is None."""
    if _armed is not None:
        _reached(name)


def _reached(name: str) -> None:
    global _passes
    if name != _armed:
        return
    if _passes:
        _passes -= 1
        return
    os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(FAILPOINT))
