"""For tests of programs that use Umbel: whole runs without sockets and threads, checks of aggregators and strategies, and a
network with faults.
"""

from umbel.testing.checks import check_aggregator, check_strategy
from umbel.testing.local import LocalRun, run_locally
from umbel.testing.proxy import ChaosProxy

__all__ = ["ChaosProxy", "LocalRun", "check_aggregator", "check_strategy", "run_locally"]
