"""One pass over a round's contents, block by block of coordinates: read, combine, finish, step, write.

Knows schemas, blocks and the algorithms it is given; knows no files and no clients: a source is a function that reads
bytes. Memory is a few blocks, however large the model and however many the updates. A rule that plans takes a pass more, in
which nothing is written: from it come the inner products between the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from umbel.aggregators import Aggregator, Cohort, Rule, fold
from umbel.aggregators.compiled import gate
from umbel.aggregators.gram import TILE, gram
from umbel.aggregators.mean import rounded
from umbel.aggregators.mixing import mixed
from umbel.blocks import Block, Stretch, cut, find_stretches, read_base, read_block, slot_dtype
from umbel.finite import FiniteBlocks, all_finite, whole
from umbel.optimizers import Optimizer
from umbel.params import DType, NDArray, Params
from umbel.stepping import CENTRE, Memory, Stepping, forgetful, slot_block, slot_schema, slot_source
from umbel.transforms import Finish
from umbel.wire import Schema, Source, dtype_of

__all__ = [
    "Contribution",
    "Spread",
    "combine",
    "finish_block",
    "in_memory",
    "is_wider",
    "stepped_schema",
    "wider_kind",
]

# Coordinates per block. 10 updates of 25 M float32: 2^14 to 2^17 are within 5 %, 2^20 is 1.6× slower (out of L2).
BLOCK = 1 << 16

# Bytes of a rule's block, as float64 of all updates side by side, and of the piece of it that is computed on at a time: of
# 20 updates 32768 coordinates are read, and 8192, or 16384 of float32, stay in a level-2 cache of 2 MiB.
RULE_BYTES = 1 << 23
PIECE_BYTES = 1 << 21

_A = TypeVar("_A")
_B = TypeVar("_B")


class Spread(Protocol):
    """`map`, or one that computes several items at a time and still yields the results in order."""

    def __call__(self, function: Callable[[_A], _B], items: Iterable[_A], /) -> Iterator[_B]: ...


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


def stepped_schema(model: Schema | None, updates: Sequence[Schema]) -> Schema:
    """The schema of the next version: the model's, but of a wider kind where one of the updates is.

    Integers and booleans that are answered with floats become F64, and floats of 16 or 8 bits that are answered with longer
    ones become F32: otherwise steps below their precision would never move them. F32 stays; F64 answers are rounded to it.
    `updates` are those that count: a client that has not trained sends back what it was given. Without a model it is the
    first update's.
    """
    if model is None:
        return updates[0]
    specs = list(model.specs)
    for update in updates:
        if update.specs != model.specs:
            for i, (answer, spec) in enumerate(zip(update.specs, model.specs, strict=True)):
                if is_wider(answer.dtype, spec.dtype):
                    specs[i] = spec._replace(dtype=wider_kind(spec.dtype))
    return Schema(tuple(specs))


def is_wider(answer: str, dtype: str) -> bool:
    """Whether a tensor of `dtype` cannot go where an answer of the dtype `answer` says.

    >>> is_wider("F32", "I64"), is_wider("F32", "BF16"), is_wider("F64", "F32"), is_wider("I64", "F16")
    (True, True, False, False)
    """
    floats = dtype_of(answer).kind in "fV"
    if dtype_of(dtype).kind not in "fV":
        return floats
    return floats and dtype_of(dtype).itemsize < min(dtype_of(answer).itemsize, 4)


def wider_kind(dtype: str) -> str:
    """What a tensor of this dtype becomes that is answered with something wider."""
    return "F32" if dtype_of(dtype).kind in "fV" else "F64"


def combine(
    schema: Schema,
    base: tuple[Schema, Source] | None,
    contributions: Sequence[Contribution],
    *,
    aggregator: Aggregator | Rule,
    optimizer: Optimizer,
    chunk: int,
    finish: Finish | None = None,
    number: int = 1,
    memory: Memory | None = None,
    averaged: Collection[int] = (),
    guide: Contribution | None = None,
    rng: Callable[[], np.random.RandomState] = np.random.RandomState,
    spread: Spread = map,
) -> Iterator[memoryview]:
    """The data bytes of the next version, in layout order.

    `schema` is the next version's; `contributions` ascend in their task and have its names and shapes. A yielded view is
    valid until the next one is asked for.

    `finish` is what transforms do to the mean difference of floating blocks before the optimizer's step.

    `number` is the round's; `memory` keeps what aggregator and optimizer remember, and has it once the last block has been
    taken. `averaged` are the positions of tensors that the optimizer does not step. `guide` is an update of the server's
    own, which a rule compares the others with. `rng` makes the generator of the aggregator's draws. Blocks are computed by
    `spread`; the bits do not depend on it.

    Raises `TooFewUpdates` at the first block where a rule needs more, and `NotFinite` at the first that would not be finite:
    then nothing is remembered either.
    """
    memory = memory or forgetful()
    updates = [each.schema for each in (*contributions, *([guide] if guide else []))]
    stretches = list(find_stretches(schema, base[0] if base else None, updates, averaged))
    make: Callable[[Block], NDArray]
    if isinstance(aggregator, Rule):
        aggregator.check(len(contributions))
        inputs = _Inputs(base, contributions, guide, aggregator.keeps, memory, schema)
        matrix = _plan(aggregator, stretches, inputs, rng, spread)
        blocks = cut(stretches, _coordinates(RULE_BYTES, inputs))
        make = partial(_apply_rule, aggregator, matrix, inputs)
    else:
        blocks = cut(stretches, BLOCK)
        make = partial(_fold_block, aggregator, base, contributions, chunk)

    stepping = Stepping(
        optimizer, schema, number=number, memory=memory, keeps=isinstance(aggregator, Rule) and aggregator.keeps
    )
    finite = FiniteBlocks(schema, "the next version")

    as_it_is = base is None or optimizer.replaces  # nothing will be done to a block any more

    def compute(block: Block) -> tuple[Block, NDArray, bool]:
        with np.errstate(over="ignore", invalid="ignore"):  # in whichever thread; `finite.check` finds what is too large
            new = make(block)
        # Looked at here, in its thread: of 10 updates of 25 M it is 1 % while a block is in the cache, and 10 % later.
        return block, new, (as_it_is or not block.is_float) and new.dtype == block.dtype and all_finite(new)

    at = 0  # floating coordinates that have passed
    try:
        for block, combination, known in spread(compute, blocks):
            new = combination
            if finish is not None and base is not None and block.is_float:
                new = finish_block(finish, read_base(base, block), new, at)
                at += block.size
            stepped = new
            if base is not None and block.is_float:
                stepped = stepping.step(partial(read_base, base, block), new, averaged=block.stretch.averaged)
            with np.errstate(over="ignore"):
                kept = np.ascontiguousarray(stepped, block.dtype)
            finite.check(kept, known=known and stepped is combination)
            yield kept.view(np.uint8).data
    except BaseException:
        stepping.abandon()
        raise
    stepping.done()


def finish_block(finish: Finish, old: NDArray, combined: NDArray, at: int) -> NDArray:
    """What transforms make of a combined block, whose first floating coordinate is `at`."""
    before = old.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # `finite.check` finds what is too large
        return (before + finish(combined.astype(np.float64) - before, at)).astype(combined.dtype)


def _fold_block(
    aggregator: Aggregator,
    base: tuple[Schema, Source] | None,
    contributions: Sequence[Contribution],
    chunk: int,
    block: Block,
) -> NDArray:
    scratch = np.empty(block.size * 8, np.uint8)

    def updates() -> Iterator[tuple[int, NDArray, float]]:
        for contribution, (begin, tag) in zip(contributions, block.stretch.updates, strict=True):
            values = read_block(contribution.source, begin, tag, block.start, block.size, scratch)
            if contribution.moves:
                values = _rebase(contribution, values, base, block)
            yield contribution.task, values, contribution.weight

    return fold(aggregator, block.dtype, updates(), chunk=chunk)


@dataclass(frozen=True, slots=True)
class _Inputs:
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
                row[:] = _rebase(self.contributions[i], values, self.base, block) if self.contributions[i].moves else values
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


def _plan(
    rule: Rule,
    stretches: Sequence[Stretch],
    inputs: _Inputs,
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
    for part in spread(products, cut(floating or stretches, _coordinates(RULE_BYTES, inputs))):
        total += part
    weights = np.array([contribution.weight for contribution in inputs.contributions], np.float64)
    return rule.plan(Cohort.of(total, weights, inputs.guides, rng))


def _apply_rule(rule: Rule, matrix: NDArray | None, inputs: _Inputs, block: Block) -> NDArray:
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


def _coordinates(room: int, inputs: _Inputs) -> int:
    """Coordinates of all rows of a rule, as float64, in so many bytes: a power of two, 1024 at least."""
    return 1 << min(max((room // (8 * inputs.count)).bit_length() - 1, 10), 16)


def in_memory(params: Params) -> Source:
    """A source that reads parameters in memory."""
    data = params.buffer.data

    def read(start: int, out: memoryview) -> None:
        out[:] = data[start : start + len(out)]

    return read


def _rebase(
    contribution: Contribution, values: NDArray, base: tuple[Schema, Source] | None, block: Block
) -> NDArray:
    """What an update from another version counts as."""
    if base is None or not block.is_float:
        return values
    old = read_base(base, block).astype(np.float64)
    origin = old if contribution.origin is None else read_base((base[0], contribution.origin), block).astype(np.float64)
    return old + contribution.share * (values.astype(np.float64) - origin)
