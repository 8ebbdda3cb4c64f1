"""For tests of programs that use Umbel: whole runs without sockets and threads, checks of aggregators, strategies and
transforms, and a network with faults.
"""

from umbel.testing.checks import check_aggregator, check_strategy
from umbel.testing.local import LocalRun, run_locally
from umbel.testing.proxy import ChaosProxy
from umbel.testing.transforms import check_transform

__all__ = ["ChaosProxy", "LocalRun", "check_aggregator", "check_strategy", "check_transform", "run_locally"]
