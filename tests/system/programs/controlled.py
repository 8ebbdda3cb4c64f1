"""FedAvg whose updates have a part beside the model: a control variate, which the clients' training goes by."""

from __future__ import annotations

from dataclasses import replace

import umbel as fl
from umbel.aggregators import mean
from umbel.fold import Part
from umbel.optimizers import momentum

__all__ = ["Controlled"]


class Controlled(fl.server.strategy.FedAvg):
    receives = "sum"

    def algorithm(self):
        return replace(super().algorithm(), parts={"control": Part(mean(), momentum(0.5))})
