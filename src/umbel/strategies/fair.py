"""q-FedAvg: clients with a high loss count more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Unpack

from umbel.aggregators import fair
from umbel.dialogue import GivenParameters, Parameters
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError
from umbel.keywords import checked
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.fedavg import Common, FedAvg

__all__ = ["QFedAvg"]


class QFedAvg(FedAvg):
    """x ← x − Σ F_k^q·G_k / Σ (q·F_k^(q−1)·‖G_k‖² + L·F_k^q) with G_k = L·(x − x_k) and L = 1/learning rate.

    Li et al. 2020, "Fair Resource Allocation in Federated Learning", Algorithm 2 (q-FedAvg). F_k is the loss of the
    present model x on client k's data: the metric `loss` that the client's `fit` returns, measured before it trains. An
    update whose loss is below 0, infinite or NaN is left out. Where a client sends none it is the loss of the server's own
    evaluation, the same for all, as always in flwr; there, F_k cannot differ between clients, and without `evaluate_fn` the
    round raises `NameError`. Without `evaluate_fn` an update that has no loss is left out here, where others have one.

    - `q_param`: q, 0 or more; 0 is the plain mean of the differences
    - `qffl_learning_rate`: the clients' learning rate, 1/L
    """

    receives = "updates"

    @checked
    def __init__(
        self,
        *,
        q_param: float = 0.2,
        qffl_learning_rate: float = 0.1,
        min_fit_clients: int = 1,
        min_evaluate_clients: int = 1,
        min_available_clients: int = 1,
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
        self.q_param = q_param
        self.learning_rate = qffl_learning_rate
        self.algorithm()  # wrong numbers are said here, not in round 1

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), aggregator=fair(self.q_param, self.learning_rate), weigh=self._weigh)

    def _weigh(self, here: Round, results: Sequence[Result]) -> list[float]:
        """F_k: the rule takes losses where others take numbers of examples."""
        losses = [result.metrics.get("loss") for result in results]
        numbers = [float(loss) if isinstance(loss, (int, float)) else None for loss in losses]
        if None in numbers:
            evaluated = self._own_loss(here)
            if evaluated is not None:
                return [evaluated] * len(results)
        if all(number is None for number in numbers):
            raise StrategyError(
                "QFedAvg needs the loss of the present model on each client's data: return it from fit() as the metric "
                "'loss', or give the strategy an evaluate_fn, whose loss then stands for all"
            )
        return [nan if number is None else number for number in numbers]

    def _own_loss(self, here: Round) -> float | None:
        """The loss of the present model on the server's data, in whichever round; None where it has none."""
        arrays = here.arrays()
        if arrays is None:
            return None
        present = Parameters.of(arrays)
        evaluated = self._ask_evaluate_fn(here, present) or self.evaluate(here.number, present)
        return None if evaluated is None else float(evaluated[0])
