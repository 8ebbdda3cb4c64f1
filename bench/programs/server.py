"""A classic server, in either framework: `server.py umbel|flwr OPTIONS`. Notes when each round begins and ends."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from reporting import Report, run


def timed(fl: ModuleType, report: Report) -> type:
    """FedAvg that marks the moments at which it is asked; all else is the framework's."""

    class Timed(fl.server.strategy.FedAvg):
        def configure_fit(self, *arguments, **named):
            chosen = super().configure_fit(*arguments, **named)  # flwr waits for its clients in here
            report.mark("round")
            return chosen

        def configure_evaluate(self, *arguments, **named):
            report.mark("fitted")
            return super().configure_evaluate(*arguments, **named)

        def aggregate_evaluate(self, *arguments, **named):
            summary = super().aggregate_evaluate(*arguments, **named)
            report.mark("evaluated")
            return summary

    return Timed


def main(options: dict) -> None:
    fl = importlib.import_module(sys.argv[1])
    report = Report()
    strategy = timed(fl, report)(
        fraction_evaluate=1.0 if options["evaluate"] else 0.0,
        min_fit_clients=options["clients"],
        min_evaluate_clients=options["clients"],
        min_available_clients=options["clients"],
    )
    fl.server.start_server(
        server_address=options["address"],
        config=fl.server.ServerConfig(num_rounds=options["rounds"]),
        strategy=strategy,
        **options["more"],
    )
    report.write(options["report"])


if __name__ == "__main__":
    run(main)
