"""A model of 200,000 tensors of three numbers, whose owners add one to each: what a tensor costs, whatever its size."""

from __future__ import annotations

import numpy as np

from simulated.large import Owner

__all__ = ["Owner", "initial"]

TENSORS = 200_000


def initial() -> list[np.ndarray]:
    return [np.zeros(3, np.float32) for _ in range(TENSORS)]
