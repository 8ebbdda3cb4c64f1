"""Clients that are simulated: in this process, in worker processes, or on a Ray cluster."""
