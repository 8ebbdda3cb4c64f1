"""Who is there, and who of them is sampled."""

from umbel.strategies.clients import ClientManager, SimpleClientManager

__all__ = ["ClientManager", "SimpleClientManager"]
