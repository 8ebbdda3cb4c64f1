"""The server's front door: `start_server` with a strategy."""

from umbel.pace import Pace
from umbel.server import strategy
from umbel.server.app import Server, ServerApp, ServerConfig, start_server
from umbel.server.client_manager import ClientManager, SimpleClientManager
from umbel.server.client_proxy import ClientProxy
from umbel.server.criterion import Criterion
from umbel.server.history import History
from umbel.until import Until

__all__ = [
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
