"""What is noted beside an answer of the owner's: remarks of strategies, and numbers of clients that do not count.

Each kind is said in full once in the life of a process, and in short from then on. Knows answers and replies; knows no
strategy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from umbel.remarks import Remark, remark
from umbel.rounds.messages import Input, Kind, Reply, Stepped, Summarized, Task
from umbel.runtime.log import logger
from umbel.wire import short, shorten

__all__ = ["Notes"]

REMEMBERED = 10_000  # kinds; there is no end of what strangers can make odd


class Notes:
    """Those of one run."""

    def __init__(self) -> None:
        self._said: set[tuple[str, ...]] = set()

    def add_to(self, answered: Input, heard: Sequence[Remark]) -> Input:
        """The answer with what was remarked while it was made; a line in the log where an answer takes no note."""
        kinds = {said.kind or (said.text,): said for said in reversed(heard)}  # of each kind the first
        lines = [text for text in map(self._once, reversed(kinds.values())) if text]
        if not lines:
            return answered
        if isinstance(answered, (Stepped, Summarized)):
            return replace(answered, note="\n".join([*([answered.note] if answered.note else []), *lines]))
        for line in lines:
            logger.warning("%s", line)
        return answered

    def _once(self, said: Remark) -> str:
        if said.kind and said.kind in self._said:
            return said.again
        if said.kind and len(self._said) < REMEMBERED:
            self._said.add(said.kind)
        return said.text

    def not_finite(self, kind: Kind, results: Sequence[tuple[Task, Reply]]) -> None:
        """Remarks whose loss and whose metrics are not finite; once for each client. Of no examples there is no loss."""
        losses, metrics = [], []
        for task, reply in results:
            counts = kind is Kind.EVALUATE and reply.num_examples > 0
            if counts and not math.isfinite(reply.loss) and self._first(kind, "loss", task.client):
                losses.append(f"client {task.client} ({reply.loss})")
            odd = [n for n, value in reply.metrics.items() if isinstance(value, float) and not math.isfinite(value)]
            if odd and self._first(kind, "metric", task.client):
                metrics.append(f"client {task.client} ({short(odd[0])} = {reply.metrics[odd[0]]})")
        if losses:
            remark(Remark((), f"the loss of {shorten(losses)} is not finite and does not count; metrics beside it do"))
        if metrics:
            remark(Remark((), f"metrics that are not finite count as missing: of {shorten(metrics)}"))

    def _first(self, *kind: str) -> bool:
        if kind in self._said or len(self._said) >= REMEMBERED:
            return False
        self._said.add(kind)
        return True
