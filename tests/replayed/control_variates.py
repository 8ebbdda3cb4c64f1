"""Runs whose updates have a part beside the model: SCAFFOLD, as a value and a client.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", Algorithm 1, option II. Client i
takes K steps y ← y − η·(gᵢ(y) − cᵢ + c) from the server's x, and sends y and Δcᵢ = −c + (x − y) / (K·η). The server goes to
the mean of the y, and its control variate by Σ Δcᵢ / N over those that took part, N being the number of all clients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from case import NETWORK, PROCESSES, Case, begun_on, seconds
from exact_members import numbers

from umbel.aggregators import Aggregator, mean
from umbel.client import NumPyClient
from umbel.fold import Part
from umbel.optimizers import Optimizer, momentum
from umbel.server.strategy import FedAdam, FedAvg, FedBuff, Strategy
from umbel.transforms import chain, clip, int8

__all__ = ["RATE", "STEPS", "Scaffold", "changes", "control_variates", "with_parts"]

RATE, STEPS = 0.125, 4


def changes(clients: int) -> Part:
    """The server's control variate: c ← c + Σ Δcᵢ / N."""
    total = Aggregator(
        init=lambda dtype: 0.0,
        add=lambda acc, block, weight: acc + block.astype(np.float64),
        merge=lambda acc, other: acc + other,
        finish=lambda acc, dtype: (acc / clients).astype(dtype),
    )
    return Part(total, Optimizer(lambda number, old, change, slots: (old() + change, ())))


class Scaffold(NumPyClient):
    """Is drawn to a point of its own; the force of it differs from client to client."""

    def __init__(self, context):
        self.context, self.number = context, int(context.node_id)

    def gradient(self, place, array):
        return ((self.number % 3 + 1) * (array - numbers(array.shape, self.number, place)) / 2).astype(array.dtype)

    def fit(self, parameters, config):
        c = self.context.parts["control"]
        mine = self.context.state.get("control", [np.zeros_like(each) for each in c])
        trained, sent = [], []
        for place, (x, ci, cs) in enumerate(zip(parameters, mine, c, strict=True)):
            y = x
            for _ in range(STEPS):
                y = (y - RATE * (self.gradient(place, y) - ci + cs)).astype(x.dtype)
            trained.append(y)
            sent.append((x - y) / (STEPS * RATE) - cs)
        self.context.send("control", sent)
        self.context.state["control"] = [(ci + change).astype(ci.dtype) for ci, change in zip(mine, sent, strict=True)]
        return trained, 1, {}


class TwoParts(Scaffold):
    """Sends three numbers besides."""

    def fit(self, parameters, config):
        (slow,) = self.context.parts["slow"]
        self.context.send("slow", [slow / 2 + numbers((3,), self.number)])
        return super().fit(parameters, config)


def with_parts(strategy: type[FedAvg], **parts: Part) -> type[FedAvg]:
    """The same strategy, whose updates have these parts beside the model."""

    class WithParts(strategy):
        receives = "sum"

        def algorithm(self):
            return replace(super().algorithm(), parts=parts)

    WithParts.__name__ = strategy.__name__
    return WithParts


def control_variates() -> list[Case]:
    """SCAFFOLD by itself, and under what else there is; everywhere, gone on with in the middle."""
    cases = []

    def case(name: str, strategy: Callable[..., Strategy], kind: str, **more: object) -> None:
        given = {"client_fn": Scaffold, **more}
        cases.append(Case(name=name, strategy=begun_on(kind, strategy), **given))  # type: ignore[arg-type]

    some, both = {"fraction_fit": 0.5, "fraction_evaluate": 0.0}, (PROCESSES, NETWORK)
    scaffold = with_parts(FedAvg, control=changes(3))
    case("SCAFFOLD", lambda **k: scaffold(**some, **k), "f32", clients=3, rounds=5, dies=3, ways=both)
    case("SCAFFOLD bf16", lambda **k: scaffold(**some, **k), "bf16", clients=3, rounds=5, dies=3, ways=(PROCESSES,))
    sent_as_int8 = chain(clip(1.0), int8(block=4))
    case(
        "SCAFFOLD as int8",
        lambda **k: scaffold(transform=sent_as_int8, **some, **k),
        "f32",
        clients=3,
        dies=2,
        ways=both,
    )
    moving = with_parts(FedAdam, control=changes(8), slow=Part(mean(), momentum(0.5), first=[np.ones(3, np.float32)]))
    case(
        "two parts under FedAdam",
        lambda **k: moving(**some, **k),
        "f32",
        client_fn=TwoParts,
        dies=2,
        ways=(PROCESSES,),
    )
    late = with_parts(FedBuff, control=changes(8))
    case(
        "SCAFFOLD under FedBuff",
        lambda **k: late(buffer_size=2, concurrency=6, fraction_evaluate=0.0, **k),
        "f32",
        rounds=8,
        dies=4,
        ways=(PROCESSES,),
        simulated={"durations": seconds},
    )
    return cases
