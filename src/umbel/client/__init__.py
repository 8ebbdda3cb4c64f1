"""The client's front door: derive from `NumPyClient` (or `Client`) and call `start_client`."""

from typing import TYPE_CHECKING

from umbel.lazy_import import lazy_import
from umbel.training import Client, ClientFn, NumPyClient

if TYPE_CHECKING:
    from umbel.client.app import ClientApp, start_client, start_numpy_client
else:  # a type checker would take any name for one that `__getattr__` knows
    __getattr__ = lazy_import(__name__, "umbel.client.app", "ClientApp", "start_client", "start_numpy_client")

__all__ = ["Client", "ClientApp", "ClientFn", "NumPyClient", "start_client", "start_numpy_client"]
