"""q-FedAvg: clients with a high loss count more."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from umbel.aggregators import fair
from umbel.errors import StrategyError
from umbel.exchange import Parameters
from umbel.strategies.base import Parts
from umbel.strategies.combining import Results, started_from
from umbel.strategies.fedavg import Common, FedAvg

__all__ = ["QFedAvg"]


class QFedAvg(FedAvg):
    """x ← x − Σ F_k^q·G_k / Σ (q·F_k^(q−1)·‖G_k‖² + L·F_k^q) with G_k = L·(x − x_k) and L = 1/learning rate.

    Li et al. 2020, "Fair Resource Allocation in Federated Learning", Algorithm 2 (q-FedAvg). F_k is the loss of the
    present model x on client k's data: the metric `loss` that the client's `fit` returns, measured before it trains. Where
    the clients send none it is the loss of the server's own evaluation, the same for all, as always in flwr; there, F_k
    cannot differ between clients, and without `evaluate_fn` the round raises `NameError`.

    - `q_param`: q, 0 or more; 0 is the plain mean of the differences
    - `qffl_learning_rate`: the clients' learning rate, 1/L
    """

    def __init__(
        self,
        *,
        q_param: float = 0.2,
        qffl_learning_rate: float = 0.1,
        min_fit_clients: int = 1,
        min_evaluate_clients: int = 1,
        min_available_clients: int = 1,
        initial_parameters: Parameters | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            min_fit_clients=min_fit_clients,
            min_evaluate_clients=min_evaluate_clients,
            min_available_clients=min_available_clients,
            initial_parameters=initial_parameters,
            **common,
        )
        self.q_param = q_param
        self.learning_rate = qffl_learning_rate
        _ = self.parts  # wrong numbers are said here, not in round 1

    @property
    def parts(self) -> Parts:
        return replace(super().parts, aggregator=fair(self.q_param, self.learning_rate))

    def _weights(self, server_round: int, results: Results) -> list[float]:
        """F_k: the rule takes losses where others take numbers of examples."""
        losses = [res.metrics.get("loss") for _, res in results]
        numbers = [float(loss) for loss in losses if isinstance(loss, (int, float))]
        if len(numbers) == len(results):
            return numbers
        arrays = started_from(results, self._alone)
        evaluated = None if arrays is None else self.evaluate(server_round, Parameters.of(arrays))
        if evaluated is None:
            raise StrategyError(
                "QFedAvg needs the loss of the present model on each client's data: return it from fit() as the metric "
                "'loss', or give the strategy an evaluate_fn, whose loss then stands for all"
            )
        return [float(evaluated[0])] * len(results)
