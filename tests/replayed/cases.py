"""The runs that are recorded: every strategy with every kind of numbers, and everything that can befall a run.

Inline, in processes, over the network, killed and gone on with, the bits of a run are the same: so each case has one line in
`recorded.json`, whatever way it is run.
"""

from __future__ import annotations

from case import Case
from control_variates import control_variates
from courses import courses
from every_strategy import every_strategy
from transformed import transformed
from troubles import troubles

__all__ = ["CASES"]

ALL = (*every_strategy(), *troubles(), *courses(), *transformed(), *control_variates())
CASES: dict[str, Case] = {case.name: case for case in ALL}
