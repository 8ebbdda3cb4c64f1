"""Strategies that differ from FedAvg in the server's step: FedAvgM, FedAdagrad, FedAdam, FedYogi."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from umbel.dialogue import GivenParameters
from umbel.fold import Averaged, check_averaged
from umbel.keywords import checked
from umbel.optimizers import Rate, adagrad, adam, momentum, sgd, yogi
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.fedavg import Classic, FedAvg, Sized

__all__ = ["FedAdagrad", "FedAdam", "FedAvgM", "FedOpt", "FedYogi"]


class FedAvgM(FedAvg):
    """FedAvg with momentum on the server: m ← β·m + Δ, x ← x + η·m, where Δ is the mean update minus x.

    Hsu, Qi, Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    section 3. As in flwr there is no damping and no Nesterov. It differs from flwr in that it needs no
    `initial_parameters`, and that momentum survives a restart.

    - `server_learning_rate`: η, above 0; or a function of the round, which gives it for each
    - `server_momentum`: β, at least 0 and below 1
    - `averaged`: which arrays are averaged and not stepped: patterns of names such as "*.running_var", or positions. None:
      BatchNorm's statistics and counters, by their names or, where arrays have none, by the form that PyTorch gives them
    """

    @checked
    def __init__(
        self,
        *,
        server_learning_rate: Rate = 1.0,
        server_momentum: float = 0.0,
        averaged: Averaged = None,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(**classic)
        check_averaged(averaged)
        self.averaged = averaged
        self.server_learning_rate = server_learning_rate
        self.server_momentum = server_momentum
        self.algorithm()  # wrong numbers are said here, not in round 1

    def algorithm(self) -> Algorithm:
        step = momentum(self.server_learning_rate, self.server_momentum) if self.server_momentum else None
        return replace(super().algorithm(), optimizer=step or sgd(self.server_learning_rate), averaged=self.averaged)


class FedOpt(FedAvg):
    """The numbers of adaptive federated optimization (Reddi et al. 2021, Algorithm 2); its relatives make the step.

    - `eta`: the server's learning rate, above 0; or a function of the round, which gives it for each
    - `eta_l`: the clients' learning rate; nothing here reads it, a config function may
    - `beta_1`, `beta_2`: how much of the past the first and the second moment keep, at least 0 and below 1
    - `tau`: what is added to the root of the second moment; small values are more adaptive
    - `averaged`: which arrays are averaged and not stepped, as in `FedAvgM`
    """

    @checked
    def __init__(
        self,
        *,
        initial_parameters: GivenParameters,
        eta: Rate = 1e-1,
        eta_l: float = 1e-1,
        beta_1: float = 0.0,
        beta_2: float = 0.0,
        tau: float = 1e-9,
        averaged: Averaged = None,
        **sized: Unpack[Sized],
    ) -> None:
        super().__init__(initial_parameters=initial_parameters, **sized)
        check_averaged(averaged)
        self.averaged = averaged
        self.eta = eta
        self.eta_l = eta_l
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.tau = tau
        self.algorithm()  # wrong numbers are said here, not in round 1

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), averaged=self.averaged)


class FedAdagrad(FedOpt):
    """Δ = mean − x; v ← v + Δ²; x ← x + η·Δ / (√v + τ).

    Reddi et al. 2021, Algorithm 2, FedAdagrad, with β₁ = 0. v starts from 0 as in flwr, in the paper from at least τ².
    """

    @checked
    def __init__(
        self,
        *,
        initial_parameters: GivenParameters,
        eta: Rate = 1e-1,
        eta_l: float = 1e-1,
        tau: float = 1e-9,
        averaged: Averaged = None,
        **sized: Unpack[Sized],
    ) -> None:
        super().__init__(
            initial_parameters=initial_parameters, eta=eta, eta_l=eta_l, tau=tau, averaged=averaged, **sized
        )

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), optimizer=adagrad(self.eta, self.tau))


class FedAdam(FedOpt):
    """Δ = mean − x; m ← β₁·m + (1 − β₁)·Δ; v ← β₂·v + (1 − β₂)·Δ²; x ← x + ηₜ·m / (√v + τ).

    Reddi et al. 2021, Algorithm 2, FedAdam. As in flwr, ηₜ = η·√(1 − β₂ᵗ⁺¹) / (1 − β₁ᵗ⁺¹) in round t corrects the bias of
    the first rounds; the paper has ηₜ = η, and Kingma and Ba (2015) have t where flwr has t + 1.
    """

    @checked
    def __init__(
        self,
        *,
        initial_parameters: GivenParameters,
        eta: Rate = 1e-1,
        eta_l: float = 1e-1,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-9,
        averaged: Averaged = None,
        **sized: Unpack[Sized],
    ) -> None:
        super().__init__(
            initial_parameters=initial_parameters,
            eta=eta,
            eta_l=eta_l,
            beta_1=beta_1,
            beta_2=beta_2,
            tau=tau,
            averaged=averaged,
            **sized,
        )

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), optimizer=adam(self.eta, self.beta_1, self.beta_2, self.tau))


class FedYogi(FedOpt):
    """As FedAdam with v ← v − (1 − β₂)·Δ²·sign(v − Δ²), and without the correction of the bias.

    Reddi et al. 2021, Algorithm 2, FedYogi. v starts from 0 as in flwr, in the paper from at least τ².
    """

    @checked
    def __init__(
        self,
        *,
        initial_parameters: GivenParameters,
        eta: Rate = 1e-2,
        eta_l: float = 0.0316,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        averaged: Averaged = None,
        **sized: Unpack[Sized],
    ) -> None:
        super().__init__(
            initial_parameters=initial_parameters,
            eta=eta,
            eta_l=eta_l,
            beta_1=beta_1,
            beta_2=beta_2,
            tau=tau,
            averaged=averaged,
            **sized,
        )

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), optimizer=yogi(self.eta, self.beta_1, self.beta_2, self.tau))
