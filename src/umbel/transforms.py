"""What happens to an update on its way into the fold: clip, noise, quantise, mask. Knows blocks, no files and no rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from umbel.params import NDArray

__all__ = ["Transform", "identity"]


class Transform(NamedTuple):
    """`receive(block)` → what the aggregator is given for one update's block, shape `(n,)`."""

    receive: Callable[[NDArray], NDArray]


def identity() -> Transform:
    """Values as the client sent them."""
    return _IDENTITY


_IDENTITY = Transform(lambda block: block)
