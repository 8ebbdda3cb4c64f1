"""Power of choice: of some candidates those train on whose data the model is worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from umbel.errors import StrategyError
from umbel.keywords import checked
from umbel.rounds.exchanges import Exchange
from umbel.rounds.messages import Kind
from umbel.strategies.algorithm import Algorithm, Ask, Asking
from umbel.strategies.around import Around
from umbel.strategies.fedavg import FedAvg

__all__ = ["PowerOfChoice"]

CANDIDATES = Exchange("candidates", Kind.EVALUATE)


class PowerOfChoice(Around):
    """Another strategy whose cohort is chosen by loss: `candidates` clients are drawn, the present model is evaluated on
    each one's data, by all of them at the same time, and as many as the strategy wants of those with the highest loss train.

    Cho, Wang, Joshi 2022, "Towards Understanding Biased Client Selection in Federated Learning", section 4.1, π_pow-d. It
    differs in that candidates are drawn as the strategy draws its cohort, uniformly or as its `select=` says, not by their
    numbers of examples, which are not known beforehand. It skips candidates that fail to evaluate, or whose loss is not
    finite. A client that lies about its loss is chosen: with a robust strategy more liars may train than were drawn.
    `PowerOfChoice(FedAvg(fraction_fit=0.1), candidates=30)`.

    It is that strategy in everything else, with the attributes that it has now. A `configure_fit` of somebody's own that
    samples by itself chooses by itself.
    """

    @checked
    def __init__(self, strategy: FedAvg, *, candidates: int) -> None:
        self.candidates = candidates
        self.exchanges = (CANDIDATES, *strategy.exchanges)

    def algorithm(self) -> Algorithm:
        inner = super().algorithm()

        def candidates(asking: Asking) -> Sequence[Ask] | None:
            if asking.exchange != CANDIDATES.name:
                return None if inner.choose is None else inner.choose(asking)
            size, needed = inner.wanted(asking.available, asking.busy)
            drawn = min(max(self.candidates, size), max(asking.available, size))
            names = asking.draw(drawn, max(needed, drawn), inner.select.pick) if size else []
            config = inner.configure_evaluate(asking.round)
            return [Ask(name, {**config}) for name in names]

        def worst(asking: Asking) -> list[str]:
            size, _ = inner.wanted(asking.available, asking.busy)
            return _worst(asking, size) if size else []

        return replace(inner, choose=candidates, cohort=worst)


def _worst(asking: Asking, size: int) -> list[str]:
    """The names of those with the highest losses, in the order in which they were drawn."""
    if CANDIDATES.name not in asking.round.answers:
        raise StrategyError(
            "configure_fit() of PowerOfChoice was asked without its candidates' losses; a strategy that holds one "
            "passes on exchanges and configure_exchange(), too"
        )
    told = [(each.loss, each.client) for each in asking.round.answers[CANDIDATES.name] if math.isfinite(each.loss)]
    told = [(loss, client) for loss, client in told if client in asking.present]
    worst = sorted(range(len(told)), key=lambda place: -told[place][0])[:size]
    return [told[place][1] for place in sorted(worst)]
