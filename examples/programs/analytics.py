"""Federated analytics: a histogram over all clients, and no model."""

import numpy as np

import umbel as fl


class Counts(fl.client.NumPyClient):
    def __init__(self, context):
        self.ages = np.random.default_rng(int(context.node_id)).normal(45, 15, size=200)

    def fit(self, parameters, config):
        counts, _ = np.histogram(self.ages, bins=10, range=(0, 100))
        return [counts / counts.sum()], len(self.ages), {}


strategy = fl.server.strategy.FedAvg(initial_parameters=[np.zeros(10)], fraction_evaluate=0)
print(fl.simulation.start_simulation(client_fn=Counts, num_clients=20, strategy=strategy).parameters[0])
