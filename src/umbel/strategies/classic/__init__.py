"""Runs a strategy with classic methods of its owner's: the only place that knows them all."""

from umbel.strategies.classic.adapter import ClassicHost, host_of

__all__ = ["ClassicHost", "host_of"]
