"""MNIST, cut unevenly: who has which digits is drawn from a Dirichlet distribution."""

import functools

import numpy as np
import torch
from umbel.datasets import DirichletPartitioner, FederatedDataset

CLIENTS = 100


@functools.cache
def divided(alpha: float) -> FederatedDataset:
    """MNIST in a hundred parts: the smaller `alpha`, the fewer kinds of digits each part has."""
    partitioner = DirichletPartitioner(num_partitions=CLIENTS, partition_by="label", alpha=alpha, min_partition_size=10)
    return FederatedDataset(dataset="mnist", partitioners={"train": partitioner})


@functools.cache
def part(number: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of one client. A process that has unpacked them once keeps them."""
    return _tensors(divided(alpha).load_partition(number))


@functools.cache
def test_set(alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The 10,000 images that no client has."""
    return _tensors(divided(alpha).load_split("test"))


def _tensors(dataset) -> tuple[torch.Tensor, torch.Tensor]:
    columns = dataset.with_format("numpy")
    images, labels = np.asarray(columns["image"]), np.asarray(columns["label"])
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)  # bytes: a quarter of the memory of floats
