"""One client, from the server's side."""

from umbel.strategies.clients import ClientProxy

__all__ = ["ClientProxy"]
