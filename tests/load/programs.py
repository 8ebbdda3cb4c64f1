"""Runs a tiny server or many tiny clients: python programs.py OPTIONS, as JSON."""

import json
import sys
import threading
from zlib import crc32

import numpy as np

import umbel as fl


class Tiny(fl.client.NumPyClient):
    """Adds its number to everything; fails, by its name and the round, in `faults` of 1,000 tasks."""

    def __init__(self, name, faults):
        self.name, self.faults, self.step = name, faults, crc32(name.encode()) % 7 / 8

    def fit(self, parameters, config):
        if crc32(f"{self.name} {config['round']}".encode()) % 1000 < self.faults:
            raise RuntimeError(f"no data in round {config['round']}")
        return [array * 0.5 + self.step for array in parameters], 1, {"step": self.step}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {}


def server(address, rounds, clients, size, fraction=1.0, given=True, **options):
    cohort = max(int(clients * fraction), 1)
    strategy = fl.server.strategy.FedAvg(
        fraction_fit=fraction,
        fraction_evaluate=fraction,
        min_fit_clients=cohort,
        min_evaluate_clients=cohort,
        min_available_clients=clients,
        on_fit_config_fn=lambda number: {"round": number},
        initial_parameters=fl.common.ndarrays_to_parameters([np.zeros(size, "float32")]) if given else None,
    )
    config = fl.server.ServerConfig(num_rounds=rounds)
    fl.server.start_server(server_address=address, config=config, strategy=strategy, **options)


def clients(address, names, faults):
    threads = [
        threading.Thread(
            target=fl.client.start_client,
            kwargs={"server_address": address, "client": Tiny(name, faults), "client_id": name},
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    {"server": server, "clients": clients}[chosen.pop("what")](**chosen)
