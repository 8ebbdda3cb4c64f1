"""A strategy that is another one, but for one of its answers."""

from __future__ import annotations

from umbel.params import NDArrays
from umbel.strategies.base import Parts
from umbel.strategies.combining import Results
from umbel.strategies.fedavg import FedAvg

__all__ = ["Around"]


class Around(FedAvg):
    """Has the keywords and the parts of `strategy`; a relative says what it does otherwise."""

    def __init__(self, strategy: FedAvg) -> None:
        self.__dict__.update(vars(strategy))
        self.strategy = strategy
        self._mixes = strategy._mixes

    @property
    def parts(self) -> Parts:
        return self.strategy.parts

    def num_fit_clients(self, num_available_clients: int) -> tuple[int, int]:
        ours = super().num_fit_clients(num_available_clients)
        theirs = self.strategy.num_fit_clients(num_available_clients)
        return max(ours[0], theirs[0]), max(ours[1], theirs[1])

    def _weights(self, server_round: int, results: Results) -> list[float]:
        return self.strategy._weights(server_round, results)

    def _shares(self, results: Results) -> list[float] | None:
        return self.strategy._shares(results)

    def _guide(self, server_round: int, results: Results) -> NDArrays | None:
        return self.strategy._guide(server_round, results)
