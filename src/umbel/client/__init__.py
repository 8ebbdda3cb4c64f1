"""The client's front door: derive from `NumPyClient` (or `Client`) and call `start_client`."""

from umbel.client.app import ClientApp, start_client, start_numpy_client
from umbel.training import Client, ClientFn, NumPyClient

__all__ = ["Client", "ClientApp", "ClientFn", "NumPyClient", "start_client", "start_numpy_client"]
