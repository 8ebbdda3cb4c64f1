"""A model of 4 MB in four arrays, and the owners of the large one."""

from __future__ import annotations

import numpy as np

from simulated.large import Owner

__all__ = ["Owner", "initial"]

FLOATS = 1_000_000


def initial() -> list[np.ndarray]:
    return [np.ones(FLOATS // 4, np.float32) for _ in range(4)]
