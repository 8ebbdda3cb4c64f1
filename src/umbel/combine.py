"""One pass over a round's contents, block by block of coordinates: read, combine, finish, step, write.

Knows schemas, blocks and the algorithms it is given; knows no files and no clients: a source is a function that reads
bytes. Memory is a few blocks, however large the model and however many the updates. A rule that plans takes a pass more, in
which nothing is written: from it come the inner products between the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from umbel.aggregators import Aggregator, Cohort, Rule, fold
from umbel.aggregators.compiled import gate
from umbel.aggregators.gram import TILE, gram
from umbel.aggregators.mean import rounded
from umbel.aggregators.mixing import mixed
from umbel.finite import FiniteBlocks, all_finite, whole
from umbel.optimizers import Optimizer
from umbel.params import DType, NDArray, Params
from umbel.stepping import CENTRE, Memory, Source, Stepping, forgetful, slot_block, slot_schema, slot_source
from umbel.transforms import Finish
from umbel.wire import Schema, dtype_of

__all__ = [
    "Contribution",
    "Source",
    "Spread",
    "combine",
    "finished",
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


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring tensors that have one dtype and lie side by side in every content: read as one."""

    dtype: str
    size: int
    base: tuple[int, str] | None  # first byte and dtype in the version that the clients started from
    updates: tuple[tuple[int, str], ...]  # the same in each contribution, and in the guide
    averaged: bool = False  # whether the optimizer leaves them alone


class _Block(NamedTuple):
    """Part of a run: coordinates `start` to `start + size`; `slot` is the first byte in a slot, -1 where it has none."""

    run: _Run
    start: int
    size: int
    slot: int

    @property
    def dtype(self) -> DType:
        return dtype_of(self.run.dtype)

    @property
    def is_float(self) -> bool:
        return self.slot >= 0


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
    runs = list(_runs(schema, base[0] if base else None, [*contributions, *([guide] if guide else [])], averaged))
    combined: Callable[[_Block], NDArray]
    if isinstance(aggregator, Rule):
        aggregator.check(len(contributions))
        inputs = _Inputs(base, contributions, guide, aggregator.keeps, memory, schema)
        matrix = _planned(aggregator, runs, inputs, rng, spread)
        blocks = _blocks(runs, _coordinates(RULE_BYTES, inputs))
        combined = partial(_by_rule, aggregator, matrix, inputs)
    else:
        blocks = _blocks(runs, BLOCK)
        combined = partial(_folded, aggregator, base, contributions, chunk)

    stepping = Stepping(
        optimizer, schema, number=number, memory=memory, keeps=isinstance(aggregator, Rule) and aggregator.keeps
    )
    finite = FiniteBlocks(schema, "the next version")

    as_it_is = base is None or optimizer.replaces  # nothing will be done to a block any more

    def computed(block: _Block) -> tuple[_Block, NDArray, bool]:
        with np.errstate(over="ignore", invalid="ignore"):  # in whichever thread; what is too large is noticed as such
            new = combined(block)
        # Looked at here, in its thread: of 10 updates of 25 M it is 1 % while a block is in the cache, and 10 % later.
        return block, new, (as_it_is or not block.is_float) and new.dtype == block.dtype and all_finite(new)

    at = 0  # floating coordinates that have passed
    try:
        for block, combination, known in spread(computed, blocks):
            new = combination
            if finish is not None and base is not None and block.is_float:
                new = finished(finish, _old(base, block), new, at)
                at += block.size
            stepped = new
            if base is not None and block.is_float:
                stepped = stepping.step(partial(_old, base, block), new, averaged=block.run.averaged)
            with np.errstate(over="ignore"):
                kept = np.ascontiguousarray(stepped, block.dtype)
            finite.check(kept, known=known and stepped is combination)
            yield kept.view(np.uint8).data
    except BaseException:
        stepping.abandon()
        raise
    stepping.done()


def finished(finish: Finish, old: NDArray, combined: NDArray, at: int) -> NDArray:
    """What transforms make of a combined block, whose first floating coordinate is `at`."""
    before = old.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is noticed as such
        return (before + finish(combined.astype(np.float64) - before, at)).astype(combined.dtype)


def _folded(
    aggregator: Aggregator,
    base: tuple[Schema, Source] | None,
    contributions: Sequence[Contribution],
    chunk: int,
    block: _Block,
) -> NDArray:
    scratch = np.empty(block.size * 8, np.uint8)

    def updates() -> Iterator[tuple[int, NDArray, float]]:
        for contribution, (begin, tag) in zip(contributions, block.run.updates, strict=True):
            values = _read(contribution.source, begin, tag, block.start, block.size, scratch)
            if contribution.moves:
                values = _moved(contribution, values, base, block)
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

    def updates(self, block: _Block, which: Sequence[int]) -> NDArray:
        """The blocks of some updates, shape (K, n), in memory of their own."""
        tags = {block.run.updates[i][1] for i in which}
        moves = any(self.contributions[i].moves for i in which)
        dtype = dtype_of(tags.pop()) if len(tags) == 1 and not moves else np.dtype(np.float64)
        rows = np.empty((len(which), block.size), dtype)
        for row, i in zip(rows, which, strict=True):
            begin, tag = block.run.updates[i]
            in_place = dtype_of(tag) == dtype and not self.contributions[i].moves
            room = row.view(np.uint8) if in_place else np.empty(block.size * 8, np.uint8)
            values = _read(self.contributions[i].source, begin, tag, block.start, block.size, room)
            if not in_place:
                row[:] = _moved(self.contributions[i], values, self.base, block) if self.contributions[i].moves else values
        if block.dtype == np.bool_:
            return rows.astype(np.bool_)  # one vote each, as in the mean
        return rows

    def old(self, block: _Block) -> NDArray:
        """The base's block as float64; zeros where there is none."""
        return np.zeros(block.size) if self.base is None else _old(self.base, block).astype(np.float64)

    def guiding(self, block: _Block, old: NDArray) -> list[NDArray]:
        """The guides' blocks, as differences to the base in float64."""
        rows = []
        if self.guide is not None:
            begin, tag = block.run.updates[-1]
            values = _read(self.guide.source, begin, tag, block.start, block.size, np.empty(block.size * 8, np.uint8))
            rows.append(values.astype(np.float64) - old)
        if self.keeps:
            if block.is_float:
                source = slot_source(self.memory, CENTRE, slot_schema(self.schema))
                rows.append(slot_block(source, block.slot, block.size, _slot_dtype(block)))
            else:
                rows.append(np.zeros(block.size))
        return rows


def _planned(
    rule: Rule,
    runs: Sequence[_Run],
    inputs: _Inputs,
    rng: Callable[[], np.random.RandomState],
    spread: Spread,
) -> NDArray | None:
    """The rule's plan, from the inner products of all differences: a pass of its own."""
    if rule.plan is None:
        return None
    floating = [run for run in runs if dtype_of(run.dtype).kind in "fV"]
    everyone, count, piece = range(len(inputs.contributions)), len(inputs.contributions), _coordinates(PIECE_BYTES, inputs)

    def products(block: _Block) -> NDArray:
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
    for part in spread(products, _blocks(floating or runs, _coordinates(RULE_BYTES, inputs))):
        total += part
    weights = np.array([contribution.weight for contribution in inputs.contributions], np.float64)
    return rule.plan(Cohort.of(total, weights, inputs.guides, rng))


def _by_rule(rule: Rule, matrix: NDArray | None, inputs: _Inputs, block: _Block) -> NDArray:
    if matrix is None:
        rows = inputs.updates(block, range(len(inputs.contributions)))
    else:
        counts = np.asarray(matrix.any(axis=0))
        which = np.flatnonzero(counts[: len(inputs.contributions)])  # an update that does not count is not read
        counts[len(inputs.contributions) :] = True
        used = inputs.updates(block, which.tolist())
        rows = mixed(matrix[:, counts], used, lambda: inputs.old(block), lambda old: inputs.guiding(block, old))
    if rule.reduce is None:
        return _as(block.dtype, rows[0])
    if gate(0) is not None:  # compiled loops have pieces of their own
        return _as(block.dtype, rule.reduce(rows))
    piece = _coordinates(PIECE_BYTES * 8 // rows.itemsize, inputs)  # wider for narrow rows: a median gains 15 %
    pieces = (slice(start, start + piece) for start in range(0, block.size, piece))
    return np.concatenate([_as(block.dtype, rule.reduce(rows[:, piece])) for piece in pieces])


def _as(dtype: DType, values: NDArray) -> NDArray:
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


def _old(base: tuple[Schema, Source], block: _Block) -> NDArray:
    """The block of the version that the clients started from."""
    assert block.run.base is not None
    return _read(base[1], *block.run.base, block.start, block.size, np.empty(block.size * 8, np.uint8))


def _moved(
    contribution: Contribution, values: NDArray, base: tuple[Schema, Source] | None, block: _Block
) -> NDArray:
    """What an update from another version counts as."""
    if base is None or not block.is_float:
        return values
    old = _old(base, block).astype(np.float64)
    origin = old if contribution.origin is None else _old((base[0], contribution.origin), block).astype(np.float64)
    return old + contribution.share * (values.astype(np.float64) - origin)


def _read(source: Source, begin: int, tag: str, start: int, size: int, scratch: NDArray) -> NDArray:
    dtype = dtype_of(tag)
    block = scratch[: size * dtype.itemsize]
    source(begin + start * dtype.itemsize, block.data)
    return block.view(dtype)


def _blocks(runs: Iterable[_Run], size: int) -> Iterator[_Block]:
    slot = 0
    for run in runs:
        floating = dtype_of(run.dtype).kind in "fV"
        for start in range(0, run.size, size):
            block = _Block(run, start, min(size, run.size - start), slot if floating else -1)
            yield block
            slot += block.size * _slot_dtype(block).itemsize if floating else 0


def _slot_dtype(block: _Block) -> DType:
    return np.dtype(np.float64 if block.dtype == np.float64 else np.float32)


def _runs(
    schema: Schema, base: Schema | None, contributions: Sequence[Contribution], averaged: Collection[int] = ()
) -> Iterator[_Run]:
    """The tensors of `schema` in layout order, neighbours merged wherever every content has them side by side."""
    current: _Run | None = None
    for position in schema.layout:
        spec = schema.specs[position]
        following = _Run(
            spec.dtype,
            spec.size,
            None if base is None else (base.offsets[position], base.specs[position].dtype),
            tuple((c.schema.offsets[position], c.schema.specs[position].dtype) for c in contributions),
            spec.is_float and position in averaged,
        )
        if current is not None and _adjacent(current, following):
            current = replace(current, size=current.size + following.size)
            continue
        if current is not None and current.size:
            yield current
        current = following
    if current is not None and current.size:
        yield current


def _adjacent(run: _Run, following: _Run) -> bool:
    def meets(this: tuple[int, str], that: tuple[int, str]) -> bool:
        return this[1] == that[1] and this[0] + run.size * dtype_of(this[1]).itemsize == that[0]

    bases = [(run.base, following.base)] if run.base and following.base else []
    pairs = [*zip(run.updates, following.updates, strict=True), *bases]
    alike = (run.dtype, run.averaged) == (following.dtype, following.averaged)
    return alike and all(meets(this, that) for this, that in pairs)
