"""One update of a round, as a fold reads it: where its bytes are, what it weighs, and from which version it started.

Knows schemas and sources; knows no files, clients or rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from umbel.fold.blocks import Block, read_base
from umbel.params import NDArray, Params
from umbel.wire import Schema, Source

__all__ = ["Contribution", "in_memory", "rebase"]


class Contribution(NamedTuple):
    """One update of a round: the number of its task, its schema, its data, its weight.

    An update that started from another version than the base counts as base + `share` × (update − `origin`), in float64;
    `origin` reads that version, in the base's schema, and is the base itself where it is None. Integers and booleans count
    as they were sent.
    """

    task: int
    schema: Schema
    source: Source
    weight: float
    share: float = 1.0
    origin: Source | None = None

    @property
    def moves(self) -> bool:
        """Whether the update counts as something else than what was sent."""
        return self.share != 1.0 or self.origin is not None


def rebase(contribution: Contribution, values: NDArray, base: tuple[Schema, Source] | None, block: Block) -> NDArray:
    """What an update from another version counts as."""
    if base is None or not block.is_float:
        return values
    old = read_base(base, block).astype(np.float64)
    origin = old if contribution.origin is None else read_base((base[0], contribution.origin), block).astype(np.float64)
    return old + contribution.share * (values.astype(np.float64) - origin)


def in_memory(params: Params) -> Source:
    """A source that reads parameters in memory."""
    data = params.buffer.data

    def read(start: int, out: memoryview) -> None:
        out[:] = data[start : start + len(out)]

    return read
