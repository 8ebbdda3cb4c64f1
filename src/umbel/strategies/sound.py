"""Which transforms do not go with a strategy's other parts, in words. Knows algorithms; knows no run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umbel.aggregators import Rule

if TYPE_CHECKING:
    from umbel.strategies.algorithm import Algorithm, Receives

__all__ = ["check_sound"]


def check_sound(name: str, algorithm: Algorithm, *, receives: Receives | None) -> None:
    """Raises `ValueError` where the transforms, or the parts beside the model, of the strategy called `name` cannot work
    there, with the way out.
    """
    if algorithm.parts and receives == "anything":
        raise ValueError(f"{name} takes updates of any form, and parts= needs the model's; leave out parts=")
    if algorithm.parts and algorithm.pace.max_update_norm is not None:
        raise ValueError(
            "max_update_norm= measures what a client sends, and with parts= that is more than the model; bound every update "
            "by clip(NORM) in the transform instead"
        )
    links = algorithm.chain.links
    if not links:
        return
    if receives == "anything":
        raise ValueError(f"{name} takes updates of any form, and transforms need the model's; leave out transform=")
    last = next((link for link in links if link.finish is not None), None)
    if last is not None and receives is None:
        raise ValueError(
            f"{name} has an aggregate_fit of its own, and {last.name} has a step that only Umbel's takes, on the sum of all "
            'updates. Where yours passes every result on to super().aggregate_fit(), say receives = "sum" in its class'
        )
    if algorithm.pace.max_update_norm is not None:
        raise ValueError(
            "max_update_norm= measures what a client sends, and with transform= that is differences or codes; bound every "
            "update by clip(NORM) in the transform instead"
        )
    biased = next((link for link in links if link.biased), None)
    if biased is not None and isinstance(algorithm.aggregator, Rule):
        raise ValueError(
            f"{name} compares updates with each other, and {biased.name} leaves another part of each out: honest ones are "
            "as far from each other as from a liar's. Take int8() or cast(), which leave nothing out"
        )
