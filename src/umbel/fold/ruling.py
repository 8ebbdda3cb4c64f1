"""A robust rule over the updates of a round, block by block: first its plan, in a pass of its own, then its blocks.

Knows blocks, contributions and a rule; knows no files, clients or rounds. From the first pass, in which nothing is written,
come the inner products between the updates; in the second a block is mixed from the updates that count, and reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from umbel.aggregators import Cohort, Rule
from umbel.aggregators.compiled import gate
from umbel.aggregators.gram import TILE, gram
from umbel.aggregators.mean import rounded
from umbel.aggregators.mixing import mixed
from umbel.fold.blocks import Block, Spread, Stretch, cut, read_base, read_block, slot_dtype
from umbel.fold.contribution import Contribution, rebase
from umbel.fold.finite import whole
from umbel.fold.stepping import CENTRE, Memory, slot_block, slot_schema, slot_source
from umbel.params import DType, NDArray
from umbel.wire import Schema, Source, dtype_of

__all__ = ["Inputs", "apply_rule", "plan_of", "rule_blocks"]

# Bytes of a rule's block, as float64 of all updates side by side, and of the piece of it that is computed on at a time: of
# 20 updates 32768 coordinates are read, and 8192, or 16384 of float32, stay in a level-2 cache of 2 MiB.
RULE_BYTES = 1 << 23
PIECE_BYTES = 1 << 21


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a rule reads."""

    base: tuple[Schema, Source] | None
    contributions: Sequence[Contribution]
    guide: Contribution | None
    keeps: bool
    memory: Memory
    schema: Schema

    @property
    def count(self) -> int:
        """Rows: the updates and the guides."""
        return len(self.contributions) + self.guides

    @property
    def guides(self) -> int:
        return (self.guide is not None) + self.keeps

    def updates(self, block: Block, which: Sequence[int]) -> NDArray:
        """The blocks of some updates, shape (K, n), in memory of their own."""
        tags = {block.stretch.updates[i][1] for i in which}
        moves = any(self.contributions[i].moves for i in which)
        dtype = dtype_of(tags.pop()) if len(tags) == 1 and not moves else np.dtype(np.float64)
        rows = np.empty((len(which), block.size), dtype)
        for row, i in zip(rows, which, strict=True):
            begin, tag = block.stretch.updates[i]
            in_place = dtype_of(tag) == dtype and not self.contributions[i].moves
            room = row.view(np.uint8) if in_place else np.empty(block.size * 8, np.uint8)
            values = read_block(self.contributions[i].source, begin, tag, block.start, block.size, room)
            if not in_place:
                row[:] = rebase(self.contributions[i], values, self.base, block) if self.contributions[i].moves else values
        if block.dtype == np.bool_:
            return rows.astype(np.bool_)  # one vote each, as in the mean
        return rows

    def old(self, block: Block) -> NDArray:
        """The base's block as float64; zeros where there is none."""
        return np.zeros(block.size) if self.base is None else read_base(self.base, block).astype(np.float64)

    def guiding(self, block: Block, old: NDArray) -> list[NDArray]:
        """The guides' blocks, as differences to the base in float64."""
        rows = []
        if self.guide is not None:
            begin, tag = block.stretch.updates[-1]
            values = read_block(self.guide.source, begin, tag, block.start, block.size, np.empty(block.size * 8, np.uint8))
            rows.append(values.astype(np.float64) - old)
        if self.keeps:
            if block.is_float:
                source = slot_source(self.memory, CENTRE, slot_schema(self.schema))
                rows.append(slot_block(source, block.slot, block.size, slot_dtype(block)))
            else:
                rows.append(np.zeros(block.size))
        return rows


def plan_of(
    rule: Rule,
    stretches: Sequence[Stretch],
    inputs: Inputs,
    rng: Callable[[], np.random.RandomState],
    spread: Spread,
) -> NDArray | None:
    """The rule's plan, from the inner products of all differences: a pass of its own."""
    if rule.plan is None:
        return None
    floating = [each for each in stretches if dtype_of(each.dtype).kind in "fV"]
    everyone, count, piece = range(len(inputs.contributions)), len(inputs.contributions), _coordinates(PIECE_BYTES, inputs)

    def products(block: Block) -> NDArray:
        old = inputs.old(block)
        rows, guides = inputs.updates(block, everyone), inputs.guiding(block, old)
        differences, part = np.empty((inputs.count, piece)), np.zeros((inputs.count, inputs.count))
        for start in range(0, block.size, piece):
            size = min(piece, block.size - start)
            differences[:count, :size] = rows[:, start : start + size]
            differences[:count, :size] -= old[start : start + size]
            for row, guide in zip(differences[count:], guides, strict=True):
                row[:size] = guide[start : start + size]
            whole = -(-size // TILE) * TILE
            differences[:, size:whole] = 0.0
            with np.errstate(invalid="ignore", over="ignore"):  # an update too long for float64 is noticed in `Cohort.of`
                part += gram(differences[:, :whole])
        return part

    total = np.zeros((inputs.count, inputs.count))
    for part in spread(products, rule_blocks(floating or stretches, inputs)):
        total += part
    weights = np.array([contribution.weight for contribution in inputs.contributions], np.float64)
    return rule.plan(Cohort.of(total, weights, inputs.guides, rng))


def rule_blocks(stretches: Sequence[Stretch], inputs: Inputs) -> Iterator[Block]:
    """Blocks of which all rows are in memory at once."""
    return cut(stretches, _coordinates(RULE_BYTES, inputs))


def apply_rule(rule: Rule, matrix: NDArray | None, inputs: Inputs, block: Block) -> NDArray:
    """The block of the combination; `matrix` is what the rule has planned."""
    if matrix is None:
        rows = inputs.updates(block, range(len(inputs.contributions)))
    else:
        counts = np.asarray(matrix.any(axis=0))
        which = np.flatnonzero(counts[: len(inputs.contributions)])  # an update that does not count is not read
        counts[len(inputs.contributions) :] = True
        used = inputs.updates(block, which.tolist())
        rows = mixed(matrix[:, counts], used, lambda: inputs.old(block), lambda old: inputs.guiding(block, old))
    if rule.reduce is None:
        return _round_to(block.dtype, rows[0])
    if gate(0) is not None:  # compiled loops have pieces of their own
        return _round_to(block.dtype, rule.reduce(rows))
    piece = _coordinates(PIECE_BYTES * 8 // rows.itemsize, inputs)  # wider for narrow rows: a median gains 15 %
    pieces = (slice(start, start + piece) for start in range(0, block.size, piece))
    return np.concatenate([_round_to(block.dtype, rule.reduce(rows[:, piece])) for piece in pieces])


def _round_to(dtype: DType, values: NDArray) -> NDArray:
    if values.dtype == dtype:
        return values
    return rounded(values if dtype.kind in "fV" else whole(values), dtype)


def _coordinates(room: int, inputs: Inputs) -> int:
    """Coordinates of all rows of a rule, as float64, in so many bytes: a power of two, 1024 at least."""
    return 1 << min(max((room // (8 * inputs.count)).bit_length() - 1, 10), 16)
