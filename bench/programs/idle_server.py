"""A server with many clients of which two train: those whose names begin with "worker"."""

from __future__ import annotations

import numpy as np
from reporting import Report, run

import umbel as fl
from umbel.server.criterion import Criterion


class Worker(Criterion):
    def select(self, client):
        return client.cid.startswith("worker")


class TwoWorkers(fl.server.strategy.FedAvg):
    """FedAvg among the workers; waits for everybody first."""

    def __init__(self, report: Report, clients: int) -> None:
        zeros = fl.common.ndarrays_to_parameters([np.zeros(1000, np.float32)])
        super().__init__(min_available_clients=clients, initial_parameters=zeros)  # the idle ones have none to give
        self.report = report

    def configure_fit(self, server_round, parameters, client_manager):
        self.report.mark("round")
        workers = client_manager.sample(2, criterion=Worker())
        return [(client, fl.common.FitIns(parameters, {})) for client in workers]

    def configure_evaluate(self, server_round, parameters, client_manager):
        self.report.mark("fitted")
        return []


def main(options: dict) -> None:
    report = Report()
    fl.server.start_server(server_address=options["address"], strategy=TwoWorkers(report, options["clients"]))
    report.write(options["report"])


if __name__ == "__main__":
    run(main)
