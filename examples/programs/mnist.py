"""PyTorch: a small CNN on MNIST, divided among twenty clients."""

import torch
from torch import nn

import umbel as fl


def train(net, data):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for batch in data.with_format("torch").iter(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch["image"] / 255), batch["label"]).backward()
        optimizer.step()


def test(net, data):
    batch = data.with_format("torch")[:]
    return nn.functional.cross_entropy(net(batch["image"] / 255), batch["label"])


net = nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 10))
mnist = fl.datasets.FederatedDataset(dataset="mnist", partitioners={"train": 20, "test": 20})
history = fl.federate(net, train, test, data=mnist).simulate(rounds=2)
