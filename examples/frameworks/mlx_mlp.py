"""MLX: a small network on the digits of ten owners."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers

import umbel as fl
from digits import arrays
from umbel.frameworks import mlx as umbel_mlx


def make_net():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def loss_of(net, images, labels):
    return nn.losses.cross_entropy(net(images), labels, reduction="mean")


def rows(number):
    images, labels = arrays(number)
    return mx.array(images.reshape(len(images), 64)), mx.array(labels)


def train(net, data, lr=0.5):
    optimizer = mlx.optimizers.SGD(learning_rate=lr)
    for _ in range(5):
        _, gradients = nn.value_and_grad(net, loss_of)(net, *data)
        optimizer.update(net, gradients)
        mx.eval(net.parameters())


def test(net, data):
    images, labels = data
    return loss_of(net, images, labels), {"accuracy": (net(images).argmax(axis=1) == labels).mean()}


client = umbel_mlx.client(make_net, train, test, data=rows)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
