"""A PyTorch MLP of 784, 200 and 10; an owner has 600 images, made up, and passes over them once in batches of 32."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from simulated.notes import notes
from simulated.one_pass import train

__all__ = ["Owner", "initial"]

IMAGES, BATCH = 600, 32
torch.set_num_threads(1)


def initial() -> list[np.ndarray]:
    torch.manual_seed(0)
    return [value.detach().numpy() for value in _made().parameters()]


def _made() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


net = functools.cache(_made)  # one for each process, as people do who care


@functools.cache
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Of all owners; made anew by each process."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (100 * IMAGES, 784), np.uint8)
    return torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, len(pixels)))


class Owner:
    def __init__(self, number: int) -> None:
        mine = slice(number * IMAGES, (number + 1) * IMAGES)
        self.images, self.labels = (column[mine] for column in images())

    def fit(self, parameters, config):
        return train(net(), parameters, self.images, self.labels, BATCH), IMAGES, notes(config)
