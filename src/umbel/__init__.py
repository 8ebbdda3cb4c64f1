"""Umbel: federated learning. Many owners of data train one model, and the data stays where it is.

    import umbel as fl

    fed = fl.federate(Net, train, test, data=load)     # a model, its own functions, and whose data
    fed.simulate(clients=100, rounds=10)
    fed.serve("0.0.0.0:8080", rounds=10)
    fed.join("server:8080", data=mine)

    fl.client.start_client(server_address="127.0.0.1:8080", client=MyClient())
    fl.server.start_server(server_address="0.0.0.0:8080", config=fl.server.ServerConfig(num_rounds=3))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = [
    "callbacks", "client", "common", "datasets", "errors", "events", "federate", "frameworks", "load", "server", "simulation"
]  # fmt: skip
__version__ = "0.1.0"

if TYPE_CHECKING:  # so that a type checker and an editor know what `umbel.server` is, and that `umbel.sever` is nothing
    from umbel import callbacks, client, common, datasets, errors, events, frameworks, server, simulation
    from umbel.federated_model import federate
    from umbel.runtime.saved import load
else:
    _FUNCTIONS = {"federate": "umbel.federated_model", "load": "umbel.runtime.saved"}

    def __getattr__(name: str) -> object:
        # On demand: a client has no use for the server's libraries, nor a server for the data sets'.
        if name in _FUNCTIONS:
            return getattr(importlib.import_module(_FUNCTIONS[name]), name)
        if name in __all__:
            return importlib.import_module(f"umbel.{name}")
        from umbel.suggest import unknown_name

        raise AttributeError(unknown_name("umbel", name))


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
