"""Federated analytics: python counts.py server ADDRESS, or python counts.py NAME ADDRESS [parameters] for a client."""

import json
import sys

import numpy as np

import umbel as fl


class Counts(fl.client.NumPyClient):
    """Tells how many rows it has."""

    def fit(self, parameters, config):
        print("given", [array.tolist() for array in parameters], flush=True)
        return parameters, 10, {"rows": 10}


class Has(Counts):
    def get_parameters(self, config):
        return [np.full(2, 7.0)]


def main(who, address, *more):
    if who == "server":
        history = fl.server.start_server(
            server_address=address,
            config=fl.server.ServerConfig(num_rounds=2),
            strategy=fl.server.strategy.FedAvg(fraction_evaluate=0.0),
        )
        print(json.dumps([history.metrics_distributed_fit, history.failures]))
    else:
        fl.client.start_client(server_address=address, client=Has() if more else Counts(), client_id=who)


if __name__ == "__main__":
    main(*sys.argv[1:])
