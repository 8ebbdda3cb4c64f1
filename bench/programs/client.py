"""A client that sends back what it got, in either framework: `client.py umbel|flwr OPTIONS`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
from reporting import Report, run


def echo(fl: ModuleType, report: Report, sizes: list[int]) -> type:
    class Echo(fl.client.NumPyClient):
        def get_parameters(self, config):
            return [np.full(size, 0.5, np.float32) for size in sizes]

        def fit(self, parameters, config):
            report.mark("fit")
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            return 0.0, 1, {}

    return Echo


def main(options: dict) -> None:
    fl = importlib.import_module(sys.argv[1])
    report = Report()
    client = echo(fl, report, options["sizes"])()
    fl.client.start_client(server_address=options["address"], client=client.to_client(), **options["more"])
    report.write(options["report"])


if __name__ == "__main__":
    run(main)
