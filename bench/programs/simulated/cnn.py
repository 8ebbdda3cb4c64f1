"""A small convolutional network on made-up pictures of MNIST's size: 20 owners have 3,000 each, in batches of 64."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from simulated.one_pass import train

__all__ = ["Owner", "initial"]

IMAGES, BATCH, OWNERS = 3000, 64, 20
torch.set_num_threads(1)


def initial() -> list[np.ndarray]:
    torch.manual_seed(0)
    return [value.detach().numpy() for value in _made().parameters()]


def _made() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


net = functools.cache(_made)  # one for each process, as people do who care


@functools.cache
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Of all owners; made anew by each process."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (OWNERS * IMAGES, 1, 28, 28), np.uint8)
    return torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, len(pixels)))


class Owner:
    def __init__(self, number: int) -> None:
        mine = slice(number * IMAGES, (number + 1) * IMAGES)
        self.images, self.labels = (column[mine] for column in images())

    def fit(self, parameters, config):
        return train(net(), parameters, self.images, self.labels, BATCH), IMAGES, {}
