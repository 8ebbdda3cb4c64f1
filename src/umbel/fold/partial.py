"""A sum of updates that grows: whole updates are folded in one after another, and sums of later updates are merged in.

Knows schemas, arrays and a mergeable aggregator; knows no files, clients or rounds. This is how a simulation's worker adds
up the updates of a chunk, and how the chunks' sums become one. Coordinate by coordinate it does what `combine` does over
files, in the same order, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import numpy as np

from umbel.aggregators import Aggregator
from umbel.aggregators.accumulators import pack, unpack
from umbel.errors import WireError
from umbel.fold.blocks import BLOCK
from umbel.fold.combine import finish_block
from umbel.fold.finite import FiniteBlocks
from umbel.fold.kinds import is_wider, stepped_schema, wider_kind
from umbel.fold.stepping import Memory, Stepping, forgetful
from umbel.optimizers import Optimizer
from umbel.params import DType, NDArray, NDArrays, Params
from umbel.transforms import Finish
from umbel.wire import Schema, Source, dtype_of, tag_of

__all__ = ["PartialSum", "Plan", "plan"]

_FLOAT64 = np.dtype(np.float64)


class _Piece(NamedTuple):
    """Part of one tensor."""

    position: int
    start: int
    stop: int


class _Block(NamedTuple):
    """Neighbouring coordinates of one dtype, in layout order."""

    dtype: DType
    begin: int  # first byte in the model's data
    size: int
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is cut into blocks. Tensors of float32 or float64 that lie side by side share them; others have their own,
    because each of them may become of a wider kind.
    """

    model: Schema
    blocks: tuple[_Block, ...]
    open: tuple[int, ...]  # which blocks may become of a wider kind
    integers: tuple[int, ...]  # which are of integers or booleans


def plan(model: Schema) -> Plan:
    """Cuts a model of this schema into blocks.

    >>> from umbel.params import schema_of
    >>> [block.size for block in plan(schema_of([np.zeros(3, "float32"), np.zeros(3, "float32")])).blocks]
    [6]
    """
    cut: list[tuple[DType, int, list[_Piece]]] = []
    room = 0  # coordinates that the last one has room for
    for position in model.layout:
        spec, begin = model.specs[position], model.offsets[position]
        dtype = dtype_of(spec.dtype)
        start = 0
        settled = spec.is_float and dtype.itemsize >= 4
        if settled and room and cut[-1][0] == dtype:
            start = min(spec.size, room)
            room -= start
            cut[-1][2].append(_Piece(position, 0, start))
        if not spec.size and not settled:  # no values, but whether they are answered with a wider kind is to be known
            cut.append((dtype, begin, [_Piece(position, 0, 0)]))
        while start < spec.size:
            stop = min(start + BLOCK, spec.size)
            cut.append((dtype, begin + start * dtype.itemsize, [_Piece(position, start, stop)]))
            room = BLOCK - (stop - start)
            start = stop
    blocks = [
        _Block(dtype, begin, sum(stop - start for _, start, stop in pieces), tuple(pieces)) for dtype, begin, pieces in cut
    ]
    dtypes = [model.specs[block.pieces[0].position].dtype for block in blocks]
    able = tuple(i for i, dtype in enumerate(dtypes) if dtype not in ("F32", "F64"))
    return Plan(model, tuple(blocks), able, tuple(i for i in able if dtype_of(dtypes[i]).kind in "iub"))


class PartialSum:
    """The updates of consecutive tasks, folded together. What `add` and `merge` are given must come in task order.

    >>> from umbel.aggregators import mean
    >>> from umbel.optimizers import sgd
    >>> from umbel.params import schema_of
    >>> one, three = [np.array([1.0, 2.0])], [np.array([5.0, 6.0])]
    >>> total = PartialSum(mean(), plan(schema_of(one)))
    >>> total.add(total.blocks_of(one), 1)
    >>> total.add(total.blocks_of(three), 3)
    >>> np.frombuffer(next(total.blocks(None, sgd()))).tolist()
    [4.0, 5.0]
    """

    def __init__(self, aggregator: Aggregator, plan: Plan) -> None:
        self.updates = 0
        self.aggregator = aggregator
        self._plan = plan
        self._accs: list[Any] = []
        self._floats: list[Any] = []  # of the plan's integers once more, as the float64 that they may become
        self._wider: set[int] = set()  # positions that an update which counts has answered with a wider kind
        self.rounds = False  # whether some update was longer than the float32 that it becomes

    @property
    def nbytes(self) -> int:
        """About the size of the accumulators."""
        return 8 * sum(block.size for block in self._plan.blocks)

    def stream(self) -> tuple[Schema, Iterator[memoryview]]:
        """The sum as a content: its schema, and its data bytes in layout order, of which nothing is copied.

        Raises `TypeError` or `WireError` where the aggregator does not say how its accumulator travels.
        """
        written = [self.aggregator.wire.write(acc) for acc in (*self._accs, *self._floats)]
        return pack(written, {"updates": self.updates, "wider": sorted(self._wider), "rounds": self.rounds})

    @classmethod
    def read(cls, aggregator: Aggregator, plan: Plan, content: Params) -> PartialSum:
        """The sum that `stream` wrote, elsewhere: a view of `content`, which is written to where sums are merged into it.

        Raises `WireError` for anything else.
        """
        total = cls(aggregator, plan)
        written, about = unpack(content)
        kinds = [block.dtype for block in plan.blocks] + [_FLOAT64 for _ in plan.integers] if written else []
        try:
            read = [aggregator.wire.read(kind, *each) for kind, each in zip(kinds, written, strict=True)]
            total.updates, total._wider, total.rounds = about["updates"], {*about["wider"]}, about["rounds"]
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"this is no sum of updates to the model: {type(error).__name__}: {error}") from None
        total._accs, total._floats = read[: len(plan.blocks)], read[len(plan.blocks) :]
        return total

    def blocks_of(self, arrays: NDArrays) -> list[NDArray]:
        """An update as `add` takes it: 1-d arrays, one for each block of the plan, without copying where a tensor is one.

        `arrays` are row-major and have the model's shapes.
        """
        return [_take(arrays, block) for block in self._plan.blocks]

    def blocks_in(self, data: NDArray) -> list[NDArray]:
        """The same of an update that lies in one piece, as the model's data bytes; nothing is copied."""
        return [np.ndarray(block.size, block.dtype, data, block.begin) for block in self._plan.blocks]

    def add(self, blocks: list[NDArray], weight: float, *, alike: bool = False) -> None:
        """Folds one update in, in place; `alike` says that it has the model's dtypes."""
        add, planned = self.aggregator.add, self._plan.blocks
        if not self._accs:
            self._accs = [self.aggregator.init(block.dtype) for block in planned]
            self._floats = [self.aggregator.init(_FLOAT64) for _ in self._plan.integers]
        self._accs = [add(acc, block, weight) for acc, block in zip(self._accs, blocks, strict=True)]
        for i, spot in enumerate(self._plan.integers):
            self._floats[i] = add(self._floats[i], blocks[spot], weight)
        if not alike:
            self._look_at_dtypes(blocks, weight)
        self.updates += 1

    def _look_at_dtypes(self, blocks: list[NDArray], weight: float) -> None:
        for spot in self._plan.open if weight > 0 else ():
            position = self._plan.blocks[spot].pieces[0].position
            if is_wider(tag_of(blocks[spot].dtype), self._plan.model.specs[position].dtype):
                self._wider.add(position)
        pairs = zip(blocks, self._plan.blocks, strict=True)
        self.rounds = self.rounds or any(ours.dtype == _FLOAT64 and theirs.dtype == np.float32 for ours, theirs in pairs)

    def merge(self, other: PartialSum) -> None:
        """Adds a sum of later tasks, in place."""
        if not self._accs:
            self._accs, self._floats = other._accs, other._floats
        elif other._accs:
            merge = self.aggregator.merge
            self._accs = [merge(mine, theirs) for mine, theirs in zip(self._accs, other._accs, strict=True)]
            self._floats = [merge(mine, theirs) for mine, theirs in zip(self._floats, other._floats, strict=True)]
        self._wider |= other._wider
        self.rounds = self.rounds or other.rounds
        self.updates += other.updates

    def schema(self) -> Schema:
        """Of the next version: what an update that counts has answered with a wider kind becomes of one."""
        model = self._plan.model
        answered = (
            spec._replace(dtype=wider_kind(spec.dtype)) if i in self._wider else spec for i, spec in enumerate(model.specs)
        )
        return stepped_schema(model, [Schema(tuple(answered))])

    def blocks(
        self,
        base: Source | None,
        optimizer: Optimizer,
        *,
        number: int = 1,
        memory: Memory | None = None,
        averaged: Collection[int] = (),
        finish: Finish | None = None,
    ) -> Iterator[memoryview]:
        """The next version's data bytes in layout order, each view valid until the next.

        `base` reads the version that the clients started from; `number` is the round's, and `memory` keeps what the
        optimizer remembers; `averaged` are the positions of tensors that it does not step; `finish` is as in `combine`.
        Raises `NotFinite` as `combine` does.
        """
        schema = self.schema()
        stepping = Stepping(optimizer, schema, number=number, memory=memory or forgetful())
        try:
            yield from self._stepped(schema, base, stepping, averaged, finish)
        except BaseException:
            stepping.abandon()
            raise
        stepping.done()

    def _stepped(
        self,
        schema: Schema,
        base: Source | None,
        stepping: Stepping,
        averaged: Collection[int],
        finish: Finish | None,
    ) -> Iterator[memoryview]:
        finite = FiniteBlocks(schema, "the next version")
        at, made = 0, dict[int, NDArray]()  # floating coordinates that have passed; blocks of which not all has
        for i, part, alone, last in _in_order(schema, self._plan, averaged) if self._accs else ():
            block = self._plan.blocks[i]
            dtype = dtype_of(schema.specs[block.pieces[0].position].dtype)
            if i not in made:
                with np.errstate(over="ignore", invalid="ignore"):
                    made[i] = self.aggregator.finish(self._accumulated(i), dtype)
            combined = made.pop(i) if last else made[i]
            new = combined[part]
            if base is not None and dtype.kind in "fV":
                if finish is not None:
                    new = finish_block(finish, _old(base, block, part), new, at)
                    at += new.size
                new = stepping.step(partial(_old, base, block, part), new, averaged=alone)
            with np.errstate(over="ignore"):
                kept = np.ascontiguousarray(new, dtype)
            finite.check(kept)
            yield kept.view(np.uint8).data

    def _accumulated(self, spot: int) -> Any:
        """What has been added up for a block, as the kind that it becomes."""
        plan = self._plan
        floats = spot in plan.integers and plan.blocks[spot].pieces[0].position in self._wider
        return self._floats[plan.integers.index(spot)] if floats else self._accs[spot]


def _in_order(schema: Schema, plan: Plan, averaged: Collection[int]) -> Iterator[tuple[int, slice, bool, bool]]:
    """The parts of a plan's blocks in the layout of `schema`: block, part, whether it is averaged, whether it is its last.

    A tensor that has become of a wider kind lies between others of that kind, and these may share a block.
    """
    parts = ((i, *part) for i, block in enumerate(plan.blocks) for part in _parts(block, averaged))
    if schema.layout != plan.model.layout:
        place = {position: place for place, position in enumerate(schema.layout)}
        pieces = []
        for i, block in enumerate(plan.blocks):
            ends = [*accumulate((piece.stop - piece.start for piece in block.pieces), initial=0)]
            for piece, start, stop in zip(block.pieces, ends, ends[1:], strict=False):
                pieces.append((place[piece.position], piece.start, i, slice(start, stop), piece.position in averaged))
        parts = ((i, part, alone) for _, _, i, part, alone in sorted(pieces, key=lambda piece: piece[:3]))
    for i, part, alone in parts:
        size = plan.blocks[i].size
        if part.start < part.stop or not size:  # a tensor without values may end a block
            yield i, part, alone, part.stop == size


def _parts(block: _Block, averaged: Collection[int]) -> Iterator[tuple[slice, bool]]:
    """The parts of a block that are stepped, and those that are averaged, in order."""
    start = 0
    for alone, pieces in groupby(block.pieces, key=lambda piece: piece.position in averaged):
        stop = start + sum(piece.stop - piece.start for piece in pieces)
        yield slice(start, stop), alone
        start = stop


def _old(base: Source, block: _Block, part: slice) -> NDArray:
    """Part of a block of the version that the clients started from."""
    values = np.empty(part.stop - part.start, block.dtype)
    base(block.begin + part.start * block.dtype.itemsize, values.view(np.uint8).data)
    return values


def _take(arrays: NDArrays, block: _Block) -> NDArray:
    if len(block.pieces) == 1:
        ((position, start, stop),) = block.pieces
        return arrays[position].reshape(-1)[start:stop]
    parts = [arrays[position].reshape(-1)[start:stop] for position, start, stop in block.pieces]
    if any(part.dtype != parts[0].dtype for part in parts):  # integers that were sent for floats, say
        parts = [part.astype(np.float64) for part in parts]
    return np.concatenate(parts)
