"""FedProx: FedAvg with a number for the clients."""

from __future__ import annotations

from typing import Unpack

from umbel.exchange import FitIns, Parameters
from umbel.keywords import checked
from umbel.strategies.clients import ClientManager, ClientProxy
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

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        chosen = super().configure_fit(server_round, parameters, client_manager)
        return [(client, FitIns(ins.parameters, {**ins.config, "proximal_mu": self.proximal_mu})) for client, ins in chosen]
