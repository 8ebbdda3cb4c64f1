"""A strategy of one's own: a client's weight is the square root of its examples."""

import math

import umbel as fl
from digits import load, make, test, train
from umbel.server.strategy import FedAvg

fed = fl.federate(make, train, test, data=load)


class Rooted(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        for _, result in results:
            result.num_examples = round(1000 * math.sqrt(result.num_examples))
        return super().aggregate_fit(server_round, results, failures)


fed.simulate(clients=10, rounds=5, strategy=Rooted(fraction_fit=0.5))
