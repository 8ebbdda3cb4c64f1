"""A hundred owners of digits, cut unevenly out of MNIST, train one network with PyTorch."""

import argparse

import numpy as np
import torch

import umbel as fl
from data import CLIENTS, divided, part, test_set
from model import Net, evaluate, train
from umbel.datasets import plot_label_distributions

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--alpha", type=float, default=0.3, help="how alike the owners are: 0.1 hardly, 100 very much")
parser.add_argument("--backend", default="auto", choices=["auto", "inline", "processes", "ray"], help="where owners train")
args = parser.parse_args()


def arrays_of(net: Net) -> list[np.ndarray]:
    return [value.numpy() for value in net.state_dict().values()]


def net_of(arrays: list[np.ndarray]) -> Net:
    net = Net()
    net.load_state_dict(dict(zip(net.state_dict(), map(torch.from_numpy, arrays), strict=True)))
    return net


class Owner(fl.client.NumPyClient):
    def __init__(self, context: fl.common.Context) -> None:
        self.state = context.state
        self.images, self.labels = part(int(context.node_config["partition-id"]), args.alpha)

    def fit(self, parameters, config):
        # An object like this one lives for one task. What an owner has to remember is in its state.
        times = self.state.get("times", 0)
        self.state["times"] = times + 1
        net = net_of(parameters)
        train(net, self.images, self.labels, learning_rate=0.05 * 0.9**times)  # smaller steps every time
        return arrays_of(net), len(self.labels), {}


def client_fn(context: fl.common.Context) -> fl.client.Client:
    return Owner(context).to_client()


def evaluate_fn(server_round: int, parameters: list[np.ndarray], config: dict) -> tuple[float, dict]:
    """The shared model on the test set, which belongs to the server."""
    loss, accuracy = evaluate(net_of(parameters), *test_set(args.alpha))
    return loss, {"accuracy": accuracy}


if __name__ == "__main__":
    partitioner = divided(args.alpha).partitioners["train"]
    title = f"Who has which digits, alpha {args.alpha:g}"
    figure, _, _ = plot_label_distributions(partitioner, "label", legend=True, title=title)
    figure.savefig("partition.png")
    print("Who has which digits: partition.png")

    torch.manual_seed(0)
    history = fl.simulation.start_simulation(
        client_fn=client_fn,
        num_clients=CLIENTS,
        config=fl.server.ServerConfig(num_rounds=args.rounds),
        strategy=fl.server.strategy.FedAvg(
            fraction_fit=0.1,  # ten of the hundred in each round
            fraction_evaluate=0.0,
            evaluate_fn=evaluate_fn,
            initial_parameters=fl.common.ndarrays_to_parameters(arrays_of(Net())),
        ),
        backend=args.backend,
    )

    history.plot().savefig("learning.png")
    print("How they learned: learning.png")
