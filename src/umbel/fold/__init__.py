"""How updates become the next version: over files in one pass, or as sums that grow where the updates are made.

Knows schemas, sources and the algorithms that it is given; knows no files, clients or rounds.
"""

from umbel.fold.blocks import Spread
from umbel.fold.combine import combine
from umbel.fold.contribution import Contribution, in_memory
from umbel.fold.distance import Distance, differs, distance
from umbel.fold.finite import all_finite
from umbel.fold.kinds import is_wider, stepped_schema
from umbel.fold.partial import Adding, PartialSum, Plan, plan
from umbel.fold.parts import Part, check_names, first_of, slots_of_part, step_beside
from umbel.fold.statistics import Averaged, check_averaged, statistics_of
from umbel.fold.stepping import CENTRE, FACTS, Memory, Sink, forgetful

__all__ = [
    "CENTRE",
    "FACTS",
    "Adding",
    "Averaged",
    "Contribution",
    "Distance",
    "Memory",
    "Part",
    "PartialSum",
    "Plan",
    "Sink",
    "Spread",
    "all_finite",
    "check_averaged",
    "check_names",
    "combine",
    "differs",
    "distance",
    "first_of",
    "forgetful",
    "in_memory",
    "is_wider",
    "plan",
    "slots_of_part",
    "statistics_of",
    "step_beside",
    "stepped_schema",
]
