"""A condition that a client must meet to be sampled."""

from umbel.strategies.clients import Criterion

__all__ = ["Criterion"]
