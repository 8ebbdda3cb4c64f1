"""A federation on a model of many tensors: python many_tensors.py HOST:PORT TENSORS serves, URL NAME takes part."""

import sys

import numpy as np

import umbel as fl


class Adds(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return [array + 1.5 for array in parameters], 1, {}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 1, {}


class Says(fl.server.strategy.FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        arrays = fl.common.parameters_to_ndarrays(parameters)
        print(f"trained to {min(a.min() for a in arrays)} in {len(arrays)} tensors", flush=True)
        return parameters, metrics


if __name__ == "__main__":
    address, other = sys.argv[1:]
    if other.isdigit():
        initial = fl.common.ndarrays_to_parameters([np.zeros(2, np.float32) for _ in range(int(other))])
        fl.server.start_server(
            server_address=address,
            config=fl.server.ServerConfig(num_rounds=1),
            strategy=Says(initial_parameters=initial),
        )
    else:
        fl.client.start_client(server_address=address, client=Adds(), client_id=other)
