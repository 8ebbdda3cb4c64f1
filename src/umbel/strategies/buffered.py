"""Asynchronous strategies: a round is made by the first updates that come, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Unpack

from umbel.dialogue.results import Result, Round
from umbel.fold import Averaged, check_averaged
from umbel.keywords import checked
from umbel.optimizers import Rate, checked_factor, sgd
from umbel.pace import Pace
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.fedavg import Classic, FedAvg

__all__ = ["FedAsync", "FedBuff", "polynomial"]

Staleness = Callable[[int], float]


def polynomial(exponent: float) -> Staleness:
    """s(τ) = (1 + τ)⁻ᵃ for an update whose version is τ rounds old (Xie et al. 2019, section 5.1).

    >>> polynomial(0.5)(0), polynomial(0.5)(3), polynomial(0)(7)
    (1.0, 0.5, 1.0)
    """
    if not exponent >= 0:
        raise ValueError(f"exponent={exponent}; it is 0 for no discount, or more")
    return lambda staleness: float((1 + staleness) ** -exponent)


class FedBuff(FedAvg):
    """x ← x + η/K · Σ s(τᵢ)·(yᵢ − xᵢ) over the K updates that come first; xᵢ is the version that client i started from.

    Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", Algorithm 1, with s(τ) = 1/√(1 + τ)
    (section 3). It differs in one point: a client that has answered is replaced when the next version is made, not at once;
    nobody would have started from another version. Updates count alike, whatever their number of examples, as in the paper.

    - `buffer_size`: K, the updates of a round
    - `concurrency`: how many clients train at the same time, K at least
    - `server_learning_rate`: η, above 0; or a function of the round
    - `staleness`: s, a function of the rounds that have passed since the version of an update
    - `select`: who of those that are idle; how many is the concurrency's
    - `max_staleness`: an update whose version is older than so many rounds is given up; None for no limit
    - `averaged`: which arrays are averaged and not stepped by η, as in `FedAvgM`
    """

    receives = "updates"

    @checked
    def __init__(
        self,
        *,
        buffer_size: int = 10,
        concurrency: int = 20,
        server_learning_rate: Rate = 1.0,
        staleness: Staleness = polynomial(0.5),  # noqa: B008  # a constant
        max_staleness: int | None = None,
        averaged: Averaged = None,
        **classic: Unpack[Classic],
    ) -> None:
        check_averaged(averaged)
        if buffer_size > concurrency:
            raise ValueError(f"buffer_size={buffer_size} and concurrency={concurrency}; the buffer is 1 to concurrency")
        super().__init__(**{"min_fit_clients": 1, "min_available_clients": buffer_size, **classic})  # type: ignore[arg-type]  # the same keywords
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.server_learning_rate = server_learning_rate
        self.staleness = staleness
        self.max_staleness = max_staleness
        self.averaged = averaged
        self.algorithm()  # wrong numbers are said here, not in round 1

    @property
    def pace(self) -> Pace:
        mine = Pace(goal=self.buffer_size, carry_over=True, max_staleness=self.max_staleness)
        return self._complete_pace(self._pace or mine)

    def algorithm(self) -> Algorithm:
        return replace(
            super().algorithm(),
            concurrency=self.concurrency,
            weigh=lambda _, results: [1.0] * len(results),
            shares=self._shares,
            optimizer=sgd(self.server_learning_rate),
            averaged=self.averaged,
        )

    def _shares(self, _: Round, results: Sequence[Result]) -> list[float]:
        return [self._share(result.staleness) for result in results]

    def _share(self, staleness: int) -> float:
        return checked_factor(self.staleness(staleness), "staleness()", f"{staleness} rounds")


class FedAsync(FedBuff):
    """x ← (1 − αₜ)·x + αₜ·y with αₜ = α·s(τ), for each update y as it comes; τ is how many rounds its version is old.

    Xie, Koyejo, Gupta 2019, "Asynchronous Federated Optimization", Algorithm 1. The clients' proximal term (equation 1 of
    the paper) is theirs to add.

    - `mixing`: α, above 0 and at most 1
    - `concurrency`: how many clients train at the same time
    - `staleness`: s, a function of the rounds that have passed since the version of an update
    - `max_staleness`: as in FedBuff
    """

    @checked
    def __init__(
        self,
        *,
        mixing: float = 0.6,
        concurrency: int = 10,
        staleness: Staleness = polynomial(0.5),  # noqa: B008  # a constant
        max_staleness: int | None = None,
        **classic: Unpack[Classic],
    ) -> None:
        super().__init__(
            buffer_size=1, concurrency=concurrency, staleness=staleness, max_staleness=max_staleness, **classic
        )
        self.mixing = mixing

    def algorithm(self) -> Algorithm:
        return replace(super().algorithm(), mixes=True)

    def _share(self, staleness: int) -> float:
        return self.mixing * super()._share(staleness)
