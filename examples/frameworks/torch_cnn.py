"""PyTorch: a CNN with BatchNorm on the digits of ten owners."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import umbel as fl
from digits import loader
from umbel.frameworks import torch as umbel_torch


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))


def train(net, data, lr=0.1):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for images, labels in data:
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step()


def test(net, data):
    net.eval()
    with torch.no_grad():
        scores, labels = net(data.dataset.tensors[0]), data.dataset.tensors[1]
    return cross_entropy(scores, labels), {"accuracy": (scores.argmax(1) == labels).float().mean()}


client = umbel_torch.client(Net, train, test, data=loader)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
