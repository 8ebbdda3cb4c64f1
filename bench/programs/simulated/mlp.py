"""A PyTorch MLP of 784, 200 and 10; an owner has 600 images, made up, and passes over them once in batches of 32."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from simulated.notes import notes

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
        model = net()
        with torch.no_grad():
            for value, array in zip(model.parameters(), parameters, strict=True):
                value.copy_(torch.from_numpy(array))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for pixels, labels in zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels / 255.0), labels).backward()
            optimizer.step()
        return [value.detach().numpy().copy() for value in model.parameters()], IMAGES, notes(config)
