"""The server: draws how the data is divided, averages the six owners' models, and draws what they learned."""

import argparse
import importlib

import matplotlib

matplotlib.use("Agg")  # into files; no screen is needed
from matplotlib import pyplot

import umbel as fl
from umbel.datasets.plot import plot_label_distributions

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("task", choices=["visits", "lines"], help="visits to a doctor, or Shakespeare's lines")
parser.add_argument("--server-address", default="127.0.0.1:8080", help="host:port to listen on")
args = parser.parse_args()

task = importlib.import_module(args.task)


def draw_partition(path: str) -> None:
    # The server of a real federation could not do this: it has no data.
    fds, column, what = task.picture()
    figure, axes, _ = plot_label_distributions(
        fds.partitioners["train"], column, "heatmap", size_unit="percent", partition_id_axis="y",
        figsize=(9, 3.5), title=f"{args.task}: what the six owners have, in percent", legend=True,
    )  # fmt: skip
    axes.set(xlabel=what, ylabel="owner")
    figure.savefig(path, dpi=120)


def draw_learning_curve(history: fl.server.History, path: str) -> None:
    figure, (upper, lower) = pyplot.subplots(2, sharex=True, layout="constrained")
    upper.plot(*zip(*history.losses_distributed, strict=True), marker="o")
    upper.set(title=f"{args.task}: the shared model on rows that were kept back", ylabel="loss")
    lower.plot(*zip(*history.metrics_distributed["accuracy"], strict=True), marker="o")
    lower.set(xlabel="round", ylabel="accuracy")
    figure.savefig(path, dpi=120)


def weighted_average(metrics):
    rows = [num_examples for num_examples, _ in metrics]
    return {"accuracy": sum(n * m["accuracy"] for n, m in metrics) / sum(rows)}


draw_partition(f"{args.task}-partition.png")
history = fl.server.start_server(
    server_address=args.server_address,
    config=fl.server.ServerConfig(num_rounds=task.ROUNDS),
    strategy=fl.server.strategy.FedAvg(
        min_fit_clients=task.CLIENTS,
        min_evaluate_clients=task.CLIENTS,
        min_available_clients=task.CLIENTS,
        initial_parameters=fl.common.ndarrays_to_parameters(task.initial()),
        evaluate_metrics_aggregation_fn=weighted_average,
    ),
)
draw_learning_curve(history, f"{args.task}-learning.png")
