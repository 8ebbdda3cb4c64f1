"""Runs whose updates are transformed on their way: everything in the box, and one of a user's own with facts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from case import NETWORK, PROCESSES, Case, begun_on, seconds
from every_strategy import STRATEGIES
from exact_members import Member

from umbel.server.strategy import FedAvg, FedBuff, Strategy
from umbel.transforms import Chain, Transform, cast, chain, clip, differences, int8, register, top_k
from umbel.update import DIFFERENCE

__all__ = ["shrinking", "transformed"]


@register
def shrinking(start: float) -> Transform:
    """Multiplies differences by a fact that halves from round to round; marks the mean; counts at each client."""

    def encode(update, base, site):
        site.memory["times"] = int(site.memory.get("times", 0)) + 1
        factor = site.facts["factor"] / site.memory["times"]
        arrays = [np.asarray(a * a.dtype.type(factor)) if a.dtype.kind in "fV" else a for a in update.parts[DIFFERENCE]]
        return update._replace(parts={**update.parts, DIFFERENCE: arrays})

    def finish(block, at, totals, facts):
        return block + facts["factor"] * (np.arange(at, at + block.size) % 3) * totals.updates / 64

    return Transform(
        "shrinking",
        {"start": start},
        encode=encode,
        finish=finish,
        advance=lambda facts, totals: {"factor": facts["factor"] / 2, "rounds": totals.round},
        facts={"factor": start, "rounds": 0},
    )


def transformed() -> list[Case]:
    """Of each transform: alone, with another strategy, in processes, over the network, gone on with in the middle."""
    cases = []

    def case(
        name: str, transform: Transform | Chain, kind: str, strategy: Callable[..., Strategy] = FedAvg, **more: object
    ) -> None:
        made = begun_on(kind, lambda **keywords: strategy(transform=transform, **keywords))
        cases.append(Case(name=name, strategy=made, client_fn=Member, **more))  # type: ignore[arg-type]

    both, few = (PROCESSES, NETWORK), {"clients": 3, "dies": 2}
    case("differences", differences(), "mixed", dies=2)
    case("clip", clip(0.5), "mixed", dies=2, ways=(PROCESSES,))
    case("cast to fp16", cast("fp16"), "mixed", **few, ways=both)
    case("cast to bf16 under FedAdam", cast("bf16"), "f32", STRATEGIES["FedAdam"], dies=2)
    case("clip and int8", chain(clip(0.5), int8(block=4)), "mixed", **few, ways=both)
    case("int8 under Krum", int8(), "f32", STRATEGIES["Krum"], rough=True)
    case(
        "int8 under FedBuff",
        int8(),
        "f32",
        lambda **k: FedBuff(buffer_size=2, concurrency=6, **k),
        rounds=8,
        dies=4,
        ways=(PROCESSES,),
        simulated={"durations": seconds},
    )
    case("top_k", top_k(0.25), "mixed", **few, ways=both)
    case("clip and top_k under FedAvgM", chain(clip(1.0), top_k(0.5)), "bf16", STRATEGIES["FedAvgM"], dies=2)
    case("a transform with facts", chain(shrinking(0.5), top_k(0.5)), "f32", **few, ways=both)
    return cases
