"""A simulation of 200 clients with a model of 4 MB: prints its peak of memory, and the CPU seconds of its quickest round.

`saving.py STRATEGY plain|saves`: with `saves` the strategy calls `super().aggregate_fit()` and saves the model.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

import umbel as fl

CLIENTS, FLOATS, ROUNDS = 200, 1_000_000, 4
moments = []
held = [0]


def look():
    """Notes the memory in use: what was resident at most, and files in memory that are open."""
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    files = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # of the listing itself
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                files += 512 * os.stat(int(name)).st_blocks
    held[0] = max(held[0], 1024 * int(resident.split()[1]) + files)


def plain(base):
    class Plain(base):
        def configure_fit(self, *asked):
            moments.append(time.process_time())
            return super().configure_fit(*asked)

        def evaluate(self, *asked):
            look()
            return super().evaluate(*asked)

    return Plain


def saves(base):
    class Saves(plain(base)):
        def aggregate_fit(self, server_round, results, failures):
            parameters, metrics = super().aggregate_fit(server_round, results, failures)
            np.savez(io.BytesIO(), *fl.common.parameters_to_ndarrays(parameters))
            look()
            return parameters, metrics

    return Saves


class AddsOne(fl.client.NumPyClient):
    def fit(self, parameters, config):
        for array in parameters:
            array += 1
        return parameters, 600, {}


base, how = getattr(fl.server.strategy, sys.argv[1]), {"plain": plain, "saves": saves}[sys.argv[2]]
fl.simulation.start_simulation(
    client_fn=lambda cid: AddsOne(),
    num_clients=CLIENTS,
    config=fl.server.ServerConfig(num_rounds=ROUNDS),
    strategy=how(base)(
        fraction_evaluate=0.0,
        min_fit_clients=CLIENTS,
        initial_parameters=fl.common.ndarrays_to_parameters([np.ones(FLOATS // 4, "float32")] * 4),
    ),
    backend="inline",
    progress=False,
)
moments.append(time.process_time())
print(json.dumps({"memory": held[0], "seconds": min(end - begin for begin, end in pairwise(moments))}))
