"""FedAvg that counts a round only if enough of the cohort answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from umbel.dialogue import GivenParameters
from umbel.keywords import checked
from umbel.rounds.messages import Kind
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.fedavg import Common, FedAvg

__all__ = ["FaultTolerantFedAvg"]


class FaultTolerantFedAvg(FedAvg):
    """FedAvg over whoever answered, where at least a part of the cohort did; otherwise the model stays.

    - `min_completion_rate_fit`, `min_completion_rate_evaluate`: results / (results + failures), 0 to 1

    It differs from flwr in that losses and metrics without a function are averaged, as everywhere in Umbel.
    """

    receives = "sum"

    @checked
    def __init__(
        self,
        *,
        min_fit_clients: int = 1,
        min_evaluate_clients: int = 1,
        min_available_clients: int = 1,
        min_completion_rate_fit: float = 0.5,
        min_completion_rate_evaluate: float = 0.5,
        initial_parameters: GivenParameters | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            min_fit_clients=min_fit_clients,
            min_evaluate_clients=min_evaluate_clients,
            min_available_clients=min_available_clients,
            initial_parameters=initial_parameters,
            **common,
        )
        self.completion_rate_fit = min_completion_rate_fit
        self.completion_rate_evaluate = min_completion_rate_evaluate

    def algorithm(self) -> Algorithm:
        whole = super().algorithm()
        rates = {Kind.FIT: self.completion_rate_fit, Kind.EVALUATE: self.completion_rate_evaluate}

        def enough(kind: Kind, results: int, failures: int) -> bool:
            return whole.enough(kind, results, failures) and results / (results + failures) >= rates[kind]

        return replace(whole, enough=enough)
