"""How updates become the next version: over files in one pass, or as sums that grow where the updates are made.

Knows schemas, sources and the algorithms that it is given; knows no files, clients or rounds.
"""

from umbel.fold.blocks import Spread
from umbel.fold.combine import combine
from umbel.fold.contribution import Contribution, in_memory
from umbel.fold.distance import Distance, differs, distance
from umbel.fold.finite import all_finite
from umbel.fold.kinds import is_wider, stepped_schema
from umbel.fold.partial import PartialSum, Plan, plan
from umbel.fold.statistics import Averaged, check_averaged, statistics_of
from umbel.fold.stepping import CENTRE, FACTS, Memory, Sink, forgetful

__all__ = [
    "CENTRE",
    "FACTS",
    "Averaged",
    "Contribution",
    "Distance",
    "Memory",
    "PartialSum",
    "Plan",
    "Sink",
    "Spread",
    "all_finite",
    "check_averaged",
    "combine",
    "differs",
    "distance",
    "forgetful",
    "in_memory",
    "is_wider",
    "plan",
    "statistics_of",
    "stepped_schema",
]
