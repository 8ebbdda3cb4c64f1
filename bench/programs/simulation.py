"""A simulation: `simulation.py umbel|flwr|loop|pool|alone TASK OPTIONS`, where TASK is a module of `simulated`.

`umbel` and `flwr` run FedAvg over the sampled clients and time the rounds inside the strategy; the others are `by_hand`. All
of them call the same clients.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from types import ModuleType

import by_hand
import numpy as np
from reporting import Report, run


def timed(fl: ModuleType, report: Report, base: type) -> type:
    """The strategy, which marks the moments at which it is asked; all else is the framework's."""

    class Timed(base):
        def configure_fit(self, *arguments, **named):
            chosen = super().configure_fit(*arguments, **named)
            report.mark("round")
            return chosen

        def configure_evaluate(self, *arguments, **named):
            report.mark("fitted")
            return super().configure_evaluate(*arguments, **named)

    return Timed


def saving(fl: ModuleType, base: type) -> type:
    """The strategy, which saves the model of each round as programs written for Flower do."""

    class Saving(base):
        def aggregate_fit(self, server_round, results, failures):
            parameters, metrics = super().aggregate_fit(server_round, results, failures)
            if parameters is not None:
                with tempfile.TemporaryFile() as file:
                    np.savez(file, *fl.common.parameters_to_ndarrays(parameters))
            return parameters, metrics

    return Saving


def maker(fl: ModuleType, task: ModuleType):
    """The task's owners as clients of the framework."""

    class Client(task.Owner, fl.client.NumPyClient):
        pass

    def client_fn(context):
        return Client(int(context.node_config["partition-id"])).to_client()

    return client_fn


def simulate(fl: ModuleType, task: ModuleType, options: dict, report: Report) -> list[dict]:
    taken: list[dict] = []

    def keep(metrics):
        taken.extend(dict(noted) for _, noted in metrics if noted)
        return {}

    more = dict(options["more"])
    if more.pop("compiled", False):  # what a long run comes to by itself, at once
        assert importlib.import_module("umbel.aggregators.compiled").gate.open()
    base = getattr(fl.server.strategy, more.pop("strategy", "FedAvg"))
    base = saving(fl, base) if more.pop("saves", False) else base
    strategy = timed(fl, report, base)(
        fraction_fit=options["sampled"] / options["clients"],
        fraction_evaluate=0.0,
        min_fit_clients=options["sampled"],
        min_available_clients=options["clients"],
        on_fit_config_fn=lambda _: {"notes": options["notes"]},
        fit_metrics_aggregation_fn=keep,
        initial_parameters=fl.common.ndarrays_to_parameters(task.initial()),
    )
    fl.simulation.start_simulation(
        client_fn=maker(fl, task),
        num_clients=options["clients"],
        config=fl.server.ServerConfig(num_rounds=options["rounds"]),
        strategy=strategy,
        **more,
    )
    return taken


def main(options: dict) -> None:
    how, name = sys.argv[1:3]
    report = Report()
    task = importlib.import_module(f"simulated.{name}")
    if how in ("umbel", "flwr"):
        taken = simulate(importlib.import_module(how), task, options, report)
    else:
        taken = getattr(by_hand, how)(task, options, report)
    report.write(options["report"], taken=taken)


if __name__ == "__main__":
    run(main)
