"""FedAvg that counts a round only if enough of the cohort answered."""

from __future__ import annotations

from typing import Unpack

from umbel.exchange import EvaluateRes, FitRes, GivenParameters, Parameters
from umbel.keywords import checked
from umbel.strategies.base import FailedResult
from umbel.strategies.clients import ClientProxy
from umbel.strategies.combining import leave_out_unfit
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

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[FailedResult]
    ) -> tuple[Parameters | None, dict[str, object]]:
        results, failures = leave_out_unfit(results, failures)
        if not _enough(len(results), len(failures), self.completion_rate_fit):
            return None, {}
        return super().aggregate_fit(server_round, results, failures)

    def aggregate_evaluate(
        self, server_round: int, results: list[tuple[ClientProxy, EvaluateRes]], failures: list[FailedResult]
    ) -> tuple[object, dict[str, object]]:
        if not _enough(len(results), len(failures), self.completion_rate_evaluate):
            return None, {}
        return super().aggregate_evaluate(server_round, results, failures)


def _enough(results: int, failures: int, rate: float) -> bool:
    return results > 0 and results / (results + failures) >= rate
