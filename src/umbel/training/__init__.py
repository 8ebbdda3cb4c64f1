"""The client's side of a task: the classes that users derive from, and what calls them. Knows no sockets and no rounds."""

from umbel.training.client import Client, ClientFn, NumPyClient, client_maker, make_client
from umbel.training.task import Answer, Encoding, accident, run_task

__all__ = ["Answer", "Client", "ClientFn", "Encoding", "NumPyClient", "accident", "client_maker", "make_client", "run_task"]
