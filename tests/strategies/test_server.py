"""A classic `Server` of one's own: it holds a strategy and a client manager, and what it would never be asked is refused."""

from __future__ import annotations

import numpy as np
import pytest

import umbel as fl
from umbel.errors import StrategyError
from umbel.server import Server, SimpleClientManager
from umbel.server.strategy import FedAvg


class Learner(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(1)]

    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 1, {}


def simulate(server):
    return fl.simulation.start_simulation(
        client_fn=lambda cid: Learner(),
        num_clients=2,
        config=fl.server.ServerConfig(num_rounds=2),
        server=server,
        backend="inline",
        progress=False,
    )


METHODS = ["fit", "fit_round", "evaluate_round", "disconnect_all_clients", "_get_initial_parameters", "client_manager"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", [Server, object])
def test_a_server_that_runs_rounds_is_refused_by_name(method, base):
    class Mine(base):
        strategy = FedAvg()

    class Mixed(Mine):
        pass

    setattr(Mine, method, lambda self, *arguments: None)
    for start in (simulate, lambda server: fl.server.start_server(server_address="127.0.0.1:0", server=server, store=None)):
        with pytest.raises(StrategyError, match=rf"server= is a Mixed, whose {method}\(\) would never be called: .*inst"):
            start(Mixed())


def test_a_server_that_only_holds_something_is_taken():
    class Mine(Server):
        def __init__(self, *, client_manager, strategy, folder):
            super().__init__(client_manager=client_manager, strategy=strategy)
            self.folder = folder

        def report(self):
            return self.folder

    server = Mine(client_manager=SimpleClientManager(), strategy=FedAvg(fraction_evaluate=0.0), folder="there")
    history = simulate(server)
    assert history.losses_distributed == []  # its strategy is the one
    assert server.report() == "there"
