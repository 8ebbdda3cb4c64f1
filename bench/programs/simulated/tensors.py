"""A model of 200,000 tensors of three numbers, whose owners add one to each: what a tensor costs, whatever its size."""

from __future__ import annotations

import numpy as np

from simulated.notes import notes

__all__ = ["Owner", "initial"]

TENSORS = 200_000


def initial() -> list[np.ndarray]:
    return [np.zeros(3, np.float32) for _ in range(TENSORS)]


class Owner:
    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters, config):
        for array in parameters:
            array += 1
        return parameters, 600, notes(config)
