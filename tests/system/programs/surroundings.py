"""A run in odd surroundings: python surroundings.py server|BACKEND|CLIENT ADDRESS [accident]."""

import ctypes
import os
import sys
import threading

import numpy as np

import umbel as fl


def change_folder():
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")


def end_listener():
    """As what is no `Exception` does in an event loop."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "umbel-http"]
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


ACCIDENTS = {"chdir": change_folder, "listener": end_listener, "": lambda: None}


class Learner(fl.client.NumPyClient):
    def __init__(self, accident):
        self.accident = accident

    def get_parameters(self, config):
        return [np.zeros(100_000)]

    def fit(self, parameters, config):
        self.accident()
        return [parameters[0] + 1], 10, {}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 10, {}


class Strategy(fl.server.strategy.FedAvg):
    accident = staticmethod(ACCIDENTS[""])

    def configure_fit(self, server_round, parameters, client_manager):
        self.accident()
        return super().configure_fit(server_round, parameters, client_manager)


def main(who, address, accident=""):
    config = fl.server.ServerConfig(num_rounds=2)
    strategy = Strategy()
    if who != "processes":  # workers get the strategy's aggregator only, but client_fn by value
        strategy.accident = ACCIDENTS[accident]
    if who == "server":
        history = fl.server.start_server(server_address=address, config=config, strategy=strategy)
    elif who in ("inline", "processes"):
        history = fl.simulation.start_simulation(
            client_fn=lambda cid: Learner(ACCIDENTS[accident]),
            num_clients=2,
            config=config,
            strategy=strategy,
            backend=who,
            workers=2,
            store="umbel-runs",
        )
    else:
        fl.client.start_client(server_address=address, client=Learner(ACCIDENTS[accident]), client_id=who)
        return
    with open(os.environ["RESULT"], "w") as file:
        file.write(str(history.losses_distributed))


if __name__ == "__main__":
    main(*sys.argv[1:])
