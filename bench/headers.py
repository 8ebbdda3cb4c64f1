"""What it saves to read the header of the run's own layout once: 50 simulated clients with 300 small tensors.

    python bench/headers.py

Prints milliseconds per client and round, with layouts known and without, measured in turn.
"""

from __future__ import annotations

import time

import numpy as np

import umbel as fl
from umbel import wire
from umbel.common import ndarrays_to_parameters
from umbel.runtime import model
from umbel.server.strategy import FedAvg
from umbel.testing import run_locally
from umbel.wire import Schema, know

CLIENTS, TENSORS, ROUNDS = 50, 300, 3


class Echo(fl.client.NumPyClient):
    def fit(
        self, parameters: fl.common.NDArrays, config: fl.common.Config
    ) -> tuple[fl.common.NDArrays, int, fl.common.Metrics]:
        return parameters, 1, {}


def measure(know_one: object) -> float:
    model.know = know_one  # type: ignore[assignment]
    wire._known = ()
    initial = ndarrays_to_parameters([np.zeros((20, 20), "float32")] * TENSORS)
    strategy = FedAvg(fraction_evaluate=0.0, initial_parameters=initial)
    began = time.perf_counter()
    run_locally(strategy, {str(i): Echo() for i in range(CLIENTS)}, num_rounds=ROUNDS)
    return (time.perf_counter() - began) / ROUNDS / CLIENTS * 1e3


def unknown(schema: Schema) -> Schema:
    return schema


def main() -> None:
    turns = [(measure(unknown), measure(lambda schema: know(schema))) for _ in range(3)]
    without, with_known = (sorted(times)[1] for times in zip(*turns, strict=True))
    print(f"without {without:.1f} ms, with {with_known:.1f} ms per client and round: {without / with_known:.2f} times")


if __name__ == "__main__":
    main()
