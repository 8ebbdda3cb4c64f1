"""For tests of programs that use Umbel: whole runs without sockets and threads, a network with faults, and checks of
aggregators, strategies, transforms, stores, transports and crews.
"""

from umbel.testing.checks import check_aggregator, check_strategy
from umbel.testing.crews import check_crew
from umbel.testing.local import LocalRun, run_locally
from umbel.testing.proxy import ChaosProxy
from umbel.testing.stores import check_store
from umbel.testing.transforms import check_transform
from umbel.testing.transports import check_transport

__all__ = [
    "ChaosProxy",
    "LocalRun",
    "check_aggregator",
    "check_crew",
    "check_store",
    "check_strategy",
    "check_transform",
    "check_transport",
    "run_locally",
]
