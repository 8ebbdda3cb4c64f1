"""For tests of programs that use Umbel: whole runs without sockets and threads, and checks of aggregators and strategies."""

from umbel.testing.checks import check_aggregator, check_strategy
from umbel.testing.local import LocalRun, run_locally

__all__ = ["LocalRun", "check_aggregator", "check_strategy", "run_locally"]
