"""The server of the MLX quickstart: three rounds of federated averaging."""

import argparse

import umbel as fl
from umbel.common import Metrics

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--server-address", default="127.0.0.1:8080", help="host:port to listen on")
args = parser.parse_args()


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    """The accuracy over all clients' test digits: each client counts by how many it has."""
    correct = [num_examples * m["accuracy"] for num_examples, m in metrics]
    examples = [num_examples for num_examples, _ in metrics]
    return {"accuracy": sum(correct) / sum(examples)}


strategy = fl.server.strategy.FedAvg(evaluate_metrics_aggregation_fn=weighted_average)

fl.server.start_server(
    server_address=args.server_address,
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=strategy,
)
