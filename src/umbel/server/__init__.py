"""The server's front door: `start_server` with a strategy."""

from typing import TYPE_CHECKING

from umbel.config import ServerConfig
from umbel.lazy_import import lazy_import
from umbel.pace import Pace
from umbel.server import strategy
from umbel.server.algorithm import Algorithm
from umbel.server.client_manager import ClientManager, SimpleClientManager
from umbel.server.client_proxy import ClientProxy
from umbel.server.criterion import Criterion
from umbel.server.history import History
from umbel.until import Until

if TYPE_CHECKING:
    from umbel.server.app import Server, ServerApp, start_server
else:  # a type checker would take any name for one that `__getattr__` knows
    __getattr__ = lazy_import(__name__, "umbel.server.app", "Server", "ServerApp", "start_server")

__all__ = [
    "Algorithm",
    "ClientManager",
    "ClientProxy",
    "Criterion",
    "History",
    "Pace",
    "Server",
    "ServerApp",
    "ServerConfig",
    "SimpleClientManager",
    "Until",
    "start_server",
    "strategy",
]
