"""Running a whole federation on one machine or a cluster: the same clients and the same strategy as over the network."""

from umbel.simulation.app import start_simulation

__all__ = ["start_simulation"]
