"""The rule of q-FedAvg: clients on whose data the model is worse count more."""

from __future__ import annotations

import numpy as np

from umbel.aggregators.rule import Cohort, Rule
from umbel.params import NDArray

__all__ = ["fair"]

_LEAST = 1e-10  # added to every loss, as in flwr: 0 to a negative power


def fair(q: float, learning_rate: float) -> Rule:
    """x + Σ F_k^q·L·d_k / Σ (q·F_k^(q−1)·L²·‖d_k‖² + L·F_k^q) with d_k = x_k − x and L = 1/`learning_rate`.

    Li et al. 2020, "Fair Resource Allocation in Federated Learning", Algorithm 2. The weights are the losses F_k; an update
    whose loss is below 0, infinite or NaN does not count, and where none counts the model stays.
    """
    if not q >= 0 or not learning_rate > 0:
        raise ValueError(f"q={q} must be 0 or more, and learning_rate={learning_rate} above 0")

    def plan(cohort: Cohort) -> NDArray:
        lipschitz = 1 / learning_rate
        row = np.zeros((1, len(cohort.gram)))
        counting = np.flatnonzero(np.isfinite(cohort.weights) & (cohort.weights >= 0))
        if len(counting):
            losses = cohort.weights[counting] + _LEAST
            shares = (losses / losses.max()) ** q  # F_k^q, divided on both sides by that of the largest, which may be huge
            squares = np.diagonal(cohort.gram)[counting] * lipschitz**2
            steepness = q * shares / losses * squares + lipschitz * shares
            row[0, counting] = shares * lipschitz / steepness.sum()
        return row

    return Rule(f"q-FedAvg with q={q}", 1, "an update", plan=plan)
