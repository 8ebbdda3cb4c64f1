"""Power of choice: of some candidates those train on whose data the model is worst."""

from __future__ import annotations

import math
from collections.abc import Sequence

from umbel.errors import StrategyError
from umbel.exchange import EvaluateIns, EvaluateRes, FitIns, GetPropertiesIns, Parameters
from umbel.keywords import checked
from umbel.rounds.exchanges import Exchange
from umbel.rounds.messages import Kind
from umbel.strategies.around import Around
from umbel.strategies.base import Answers
from umbel.strategies.clients import ClientManager, ClientProxy, SimpleClientManager
from umbel.strategies.fedavg import FedAvg, config_of

__all__ = ["PowerOfChoice"]

CANDIDATES = Exchange("candidates", Kind.EVALUATE)


class PowerOfChoice(Around):
    """Another strategy whose cohort is chosen by loss: `candidates` clients are drawn, the present model is evaluated on
    each one's data, by all of them at the same time, and as many as the strategy wants of those with the highest loss train.

    Cho, Wang, Joshi 2022, "Towards Understanding Biased Client Selection in Federated Learning", section 4.1, π_pow-d. It
    differs in that candidates are drawn as the strategy draws its cohort, uniformly or as its `select=` says, not by their
    numbers of examples, which nobody knows beforehand. A candidate that fails to evaluate, or whose loss is not finite, is
    passed over. Who lies about its loss is chosen: with a robust strategy more liars may train than were drawn.
    `PowerOfChoice(FedAvg(fraction_fit=0.1), candidates=30)`.

    It is that strategy in everything else, with the attributes that it has now. A `configure_fit` of somebody's own that
    samples by itself chooses by itself.
    """

    @checked
    def __init__(self, strategy: FedAvg, *, candidates: int) -> None:
        self.candidates = candidates
        self.exchanges = (CANDIDATES, *strategy.exchanges)

    def configure_exchange(
        self,
        exchange: str,
        server_round: int,
        parameters: Parameters,
        client_manager: ClientManager,
        answers: Answers,
    ) -> Sequence[tuple[ClientProxy, FitIns | EvaluateIns | GetPropertiesIns]]:
        if exchange == CANDIDATES.name:
            candidates = self._candidates(client_manager)
            config = config_of("on_evaluate_config_fn", self.on_evaluate_config_fn, server_round)
            return [(client, EvaluateIns(parameters, dict(config))) for client in candidates]
        self._losses = _losses(answers)
        try:
            return super().configure_exchange(exchange, server_round, parameters, client_manager, answers)
        finally:
            self._losses = None

    _losses: Sequence[tuple[float, ClientProxy]] | None = None  # as told, in the order in which candidates were drawn

    def _candidates(self, client_manager: ClientManager) -> list[ClientProxy]:
        size, needed = self._wanted(client_manager)
        if not size:
            return []
        drawn = min(max(self.candidates, size), max(client_manager.num_available(), size))
        return self._drawn(client_manager, drawn, max(needed, drawn))

    def _cohort(self, server_round: int, parameters: Parameters, client_manager: ClientManager) -> list[ClientProxy]:
        if self._losses is None:
            raise StrategyError(
                "configure_fit() of PowerOfChoice was asked without its candidates' losses; a strategy that holds one "
                "passes on exchanges and configure_exchange(), too"
            )
        size, _ = self._wanted(client_manager)
        if isinstance(client_manager, SimpleClientManager):
            present = client_manager.clients  # `all` makes a proxy for each of a million
        else:
            present = client_manager.all()
        told = [loss for loss in self._losses if loss[1].cid in present]
        worst = sorted(range(len(told)), key=lambda place: -told[place][0])[:size]
        return [told[place][1] for place in sorted(worst)]


def _losses(answers: Answers) -> list[tuple[float, ClientProxy]]:
    told = [(res.loss, client) for client, res in answers.get(CANDIDATES.name, ()) if isinstance(res, EvaluateRes)]
    return [(loss, client) for loss, client in told if math.isfinite(loss)]
