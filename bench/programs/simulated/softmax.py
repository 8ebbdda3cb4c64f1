"""A softmax regression of 784 inputs and 10 classes whose owners do not train: what is left is the framework's own."""

from __future__ import annotations

import numpy as np

from simulated.notes import notes

__all__ = ["Owner", "initial"]


def initial() -> list[np.ndarray]:
    return [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]


class Owner:
    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters, config):
        return parameters, 600, notes(config)
