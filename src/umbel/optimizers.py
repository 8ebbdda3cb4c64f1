"""The server's step: what the combined update does to the model. Knows blocks of coordinates, no files and no rounds.

Integers and booleans take the combined value as it is; an optimizer sees floating tensors only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from umbel.params import NDArray

__all__ = ["Optimizer", "sgd"]


class Optimizer(NamedTuple):
    """`step(base, combined)` → the new block, shape `(n,)`, dtype of `combined`.

    `base()` reads the same block of the version that the clients started from; an optimizer that has no use for it does
    not call it, and saves the reading.
    """

    step: Callable[[Callable[[], NDArray], NDArray], NDArray]


def sgd(learning_rate: float = 1.0) -> Optimizer:
    """x ← x + η·(mean − x), in float64 (Reddi et al. 2021, Algorithm 1 with SGD as the server's optimizer).

    With η = 1 the mean itself is the new model, to the last bit.

    >>> step = sgd(0.5).step
    >>> step(lambda: np.array([0.0, 2.0]), np.array([1.0, 4.0])).tolist()
    [0.5, 3.0]
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate}; it must be above 0")

    def step(base: Callable[[], NDArray], combined: NDArray) -> NDArray:
        if learning_rate == 1.0:
            return combined
        old = base().astype(np.float64)
        return (old + learning_rate * (combined.astype(np.float64) - old)).astype(combined.dtype)

    return Optimizer(step)
