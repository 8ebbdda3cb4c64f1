"""A model of 100 MB in four arrays whose owners add one to each number."""

from __future__ import annotations

import numpy as np

from simulated.notes import notes

__all__ = ["Owner", "initial"]

FLOATS = 25_000_000


def initial() -> list[np.ndarray]:
    return [np.ones(FLOATS // 4, np.float32) for _ in range(4)]


class Owner:
    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters, config):
        for array in parameters:
            array += 1
        return parameters, 600, notes(config)
