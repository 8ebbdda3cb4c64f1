"""Power of choice: of some candidates those train on whose data the model is worst."""

from __future__ import annotations

import math

from umbel.errors import ClientFailed
from umbel.exchange import EvaluateIns, Parameters
from umbel.keywords import checked
from umbel.strategies.around import Around
from umbel.strategies.clients import ClientManager, ClientProxy
from umbel.strategies.fedavg import FedAvg, config_of

__all__ = ["PowerOfChoice"]


class PowerOfChoice(Around):
    """Another strategy whose cohort is chosen by loss: `candidates` clients are drawn, the present model is evaluated on
    each one's data, and as many as the strategy wants of those with the highest loss train.

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

    def _cohort(self, server_round: int, parameters: Parameters, client_manager: ClientManager) -> list[ClientProxy]:
        size, needed = self._wanted(client_manager)
        if not size:
            return []
        drawn = min(max(self.candidates, size), max(client_manager.num_available(), size))
        asked = self._drawn(client_manager, drawn, max(needed, drawn))
        worst_first = sorted(self._losses(asked, parameters, server_round), key=lambda place: -place[0])
        return [asked[position] for position in sorted(position for _, position in worst_first[:size])]

    def _losses(
        self, asked: list[ClientProxy], parameters: Parameters, server_round: int
    ) -> list[tuple[float, int]]:
        """The loss of the present model at each candidate that can tell it, with the candidate's position."""
        config = config_of("on_evaluate_config_fn", self.on_evaluate_config_fn, server_round)
        losses = []
        for position, client in enumerate(asked):
            try:
                loss = client.evaluate(EvaluateIns(parameters, dict(config))).loss
            except ClientFailed:
                continue
            if math.isfinite(loss):
                losses.append((loss, position))
        return losses
