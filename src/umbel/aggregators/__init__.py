"""How updates become one."""

from umbel.aggregators.base import Aggregator, chunk_size, fold
from umbel.aggregators.mean import mean

__all__ = ["Aggregator", "chunk_size", "fold", "mean"]
