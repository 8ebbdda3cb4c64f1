"""Strategies, under their classic names."""

from umbel.strategies.base import Strategy
from umbel.strategies.fedavg import FedAvg

__all__ = ["FedAvg", "Strategy"]
