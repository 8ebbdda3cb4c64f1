"""FedProx: FedAvg with a number for the clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from umbel.keywords import checked
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.fedavg import Classic, FedAvg

__all__ = ["FedProx"]


class FedProx(FedAvg):
    """FedAvg whose clients minimise F(w) + (μ/2)·‖w − wₜ‖², where wₜ is the model that they are given.

    Li et al. 2020, "Federated Optimization in Heterogeneous Networks", equation 2. The term is for the client to add; the
    strategy sends μ as `config["proximal_mu"]`. With μ = 0 it is FedAvg.
    """

    @checked
    def __init__(self, *, proximal_mu: float, **classic: Unpack[Classic]) -> None:
        super().__init__(**classic)
        self.proximal_mu = proximal_mu

    def algorithm(self) -> Algorithm:
        plain = super().algorithm()
        return replace(plain, configure=lambda here: {**plain.configure(here), "proximal_mu": self.proximal_mu})
