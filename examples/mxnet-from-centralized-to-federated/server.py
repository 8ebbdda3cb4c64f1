"""The server: three rounds of federated averaging over two clients. Knows neither MXNet nor the data."""

import argparse

import umbel as fl
from umbel.common import Metrics


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    """The clients' accuracies, each counted as often as it has examples."""
    examples = sum(num_examples for num_examples, _ in metrics)
    return {"accuracy": sum(num_examples * m["accuracy"] for num_examples, m in metrics) / examples}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--server-address", default="0.0.0.0:8080", help="where to listen (default: %(default)s)")
args = parser.parse_args()

strategy = fl.server.strategy.FedAvg(
    fit_metrics_aggregation_fn=weighted_average,
    evaluate_metrics_aggregation_fn=weighted_average,
)

history = fl.server.start_server(
    server_address=args.server_address,
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=strategy,
)

for number, accuracy in history.metrics_distributed["accuracy"]:
    print(f"round {number}: accuracy {accuracy:.4f}")
