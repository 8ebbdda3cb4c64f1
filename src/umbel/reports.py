"""How much of what a client reports is taken: so many metrics, and so many bytes. Knows names and values; knows no run.

What is too much is left out, the rest counts: by the order in which the client has named its metrics, so that everyone who
cuts them, client, server or worker, cuts off the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from umbel.dialogue import Scalar

__all__ = ["MAX_METRICS", "MAX_METRICS_SIZE", "NAME", "Room", "size_of"]

MAX_METRICS = 1000
MAX_METRICS_SIZE = 2**20
NAME = 64  # bytes that the names of metrics may have, on average


class Room(NamedTuple):
    """How many metrics an answer may bring, and how many bytes of names, texts and numbers."""

    metrics: int = MAX_METRICS
    size: int = MAX_METRICS_SIZE

    @property
    def encoded(self) -> int:
        """Bytes that no answer's metrics exceed as MessagePack: each name and value has a head of 9 bytes at most."""
        return self.size + 18 * self.metrics + 9

    def take(self, metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The metrics that fit, each that still does by their order; the same object where all do.

        >>> Room(metrics=2).take({"a": 1.0, "b": 2.0, "c": 3.0})
        {'a': 1.0, 'b': 2.0}
        >>> Room(size=20).take({"a": 1.0, "mask": bytes(100), "b": 2.0})
        {'a': 1.0, 'b': 2.0}
        """
        taken: dict[str, Scalar] = {}
        size = names = 0
        for name, value in metrics.items():
            named = size_of(name)
            more = named + (size_of(value) if isinstance(value, (str, bytes)) else 8)
            if len(taken) < self.metrics and size + more <= self.size and names + named <= self.metrics * NAME:
                taken[name] = value
                size, names = size + more, names + named
        return taken


def size_of(text: str | bytes) -> int:
    """Bytes of a text as it travels."""
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())
