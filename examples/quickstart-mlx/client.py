"""One data owner of the MLX quickstart: trains a small network on its third of MNIST."""

import argparse
from itertools import pairwise

import mlx.core
import mlx.nn
import mlx.optimizers
import numpy as np

import umbel as fl
from umbel.datasets import FederatedDataset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--gpu", action="store_true", help="train on the GPU instead of the CPU")
parser.add_argument(
    "--node-id", "--partition-id", dest="node_id", type=int, choices=[0, 1, 2], required=True,
    help="which third of the data this client owns",
)  # fmt: skip
parser.add_argument("--server-address", default="127.0.0.1:8080", help="host:port of the server")
args = parser.parse_args()

mlx.core.set_default_device(mlx.core.gpu if args.gpu else mlx.core.cpu)
# A client's split, first weights and batches depend on its id only, so a second run repeats the first.
np.random.seed(args.node_id)
mlx.core.random.seed(args.node_id)


# The data: a third of MNIST, a fifth of which is kept back for evaluation.
fds = FederatedDataset(dataset="mnist", partitioners={"train": 3})
partition = fds.load_partition(node_id=args.node_id)
partition_splits = partition.train_test_split(test_size=0.2)

partition_splits["train"].set_format("numpy")
partition_splits["test"].set_format("numpy")

train_partition = partition_splits["train"].map(
    lambda img: {"img": img.reshape(-1, 28 * 28).squeeze().astype(np.float32) / 255.0},
    input_columns="image",
)
test_partition = partition_splits["test"].map(
    lambda img: {"img": img.reshape(-1, 28 * 28).squeeze().astype(np.float32) / 255.0},
    input_columns="image",
)

data = (
    train_partition["img"],
    train_partition["label"].astype(np.uint32),
    test_partition["img"],
    test_partition["label"].astype(np.uint32),
)
train_images, train_labels, test_images, test_labels = map(mlx.core.array, data)


# The model: linear layers with ReLU between them.
class MLP(mlx.nn.Module):
    def __init__(self, num_layers: int, input_dim: int, hidden_dim: int, output_dim: int):
        super().__init__()
        sizes = [input_dim] + [hidden_dim] * num_layers + [output_dim]
        self.layers = [mlx.nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = mlx.core.maximum(layer(x), 0.0)
        return self.layers[-1](x)


def loss_fn(model, X, y):
    return mlx.core.mean(mlx.nn.losses.cross_entropy(model(X), y))


def eval_fn(model, X, y):
    return mlx.core.mean(mlx.core.argmax(model(X), axis=1) == y)


def batch_iterate(batch_size, X, y):
    order = mlx.core.array(np.random.permutation(y.size))
    for start in range(0, y.size, batch_size):
        rows = order[start : start + batch_size]
        yield X[rows], y[rows]


# The client: how this model becomes a list of arrays and back, and what one round of work is.
class MnistClient(fl.client.NumPyClient):
    def __init__(self, model, optimizer, data, num_epochs, batch_size):
        self.model = model
        self.optimizer = optimizer
        self.loss_and_grad_fn = mlx.nn.value_and_grad(model, loss_fn)
        self.train_images, self.train_labels, self.test_images, self.test_labels = data
        self.num_epochs = num_epochs
        self.batch_size = batch_size

    def get_parameters(self, config):
        layers = self.model.parameters()["layers"]
        return [np.array(value) for layer in layers for value in layer.values()]

    def set_parameters(self, parameters):
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        layers = [{"weight": mlx.core.array(w), "bias": mlx.core.array(b)} for w, b in pairs]
        self.model.update({"layers": layers})

    def fit(self, parameters, config):
        self.set_parameters(parameters)
        for _ in range(self.num_epochs):
            for X, y in batch_iterate(self.batch_size, self.train_images, self.train_labels):
                _, grads = self.loss_and_grad_fn(self.model, X, y)
                self.optimizer.update(self.model, grads)
                mlx.core.eval(self.model.parameters(), self.optimizer.state)
        return self.get_parameters(config={}), len(self.train_images), {}

    def evaluate(self, parameters, config):
        self.set_parameters(parameters)
        loss = loss_fn(self.model, self.test_images, self.test_labels)
        accuracy = eval_fn(self.model, self.test_images, self.test_labels)
        return loss.item(), len(self.test_images), {"accuracy": accuracy.item()}


model = MLP(num_layers=2, input_dim=train_images.shape[-1], hidden_dim=32, output_dim=10)

fl.client.start_client(
    server_address=args.server_address,
    client=MnistClient(
        model,
        mlx.optimizers.SGD(learning_rate=1e-1),
        (train_images, train_labels, test_images, test_labels),
        num_epochs=1,
        batch_size=256,
    ).to_client(),
)
