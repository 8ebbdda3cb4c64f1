"""A sum of updates that grows: whole updates are folded in one after another, and sums of later updates are merged in.

Knows schemas, arrays and a mergeable aggregator; knows no files, clients or rounds. This is how a simulation's worker adds
up the updates of a chunk, and how the chunks' sums become one. Coordinate by coordinate it does what `combine` does over
files, in the same order, so the bits are the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from umbel.aggregators import Aggregator
from umbel.aggregators.accumulators import Written, pack, unpack
from umbel.errors import WireError
from umbel.fold.blocks import Block, Piece, check_shape, cut, cut_apart, find_stretches
from umbel.fold.kinds import is_wider, stepped_schema, wider_kind
from umbel.fold.stepping import Memory, Stepping, forgetful
from umbel.optimizers import Optimizer
from umbel.params import NDArray, NDArrays, Params
from umbel.transforms import Finish
from umbel.wire import Schema, Source, dtype_of, tag_of

__all__ = ["Adding", "PartialSum", "Plan", "plan"]

_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is cut into blocks. Tensors of float32 or float64 that lie side by side share them; others have their own,
    because each of them may become of a wider kind.
    """

    model: Schema
    blocks: tuple[Block, ...]
    pieces: tuple[tuple[Piece, ...], ...]  # of each block
    begins: tuple[int, ...]  # of each block the first byte in the model's data
    open: tuple[int, ...]  # which blocks may become of a wider kind
    integers: tuple[int, ...]  # which are of integers or booleans


def plan(model: Schema) -> Plan:
    """Cuts a model of this schema into blocks.

    >>> from umbel.params import schema_of
    >>> [block.size for block in plan(schema_of([np.zeros(3, "float32"), np.zeros(3, "float32")])).blocks]
    [6]
    """
    apart = {position for position, spec in enumerate(model.specs) if spec.dtype not in ("F32", "F64")}
    cuts = cut_apart(model, apart)
    blocks = [block for block, _ in cuts]
    able = tuple(i for i, (_, pieces) in enumerate(cuts) if pieces[0].position in apart)
    return Plan(
        model,
        tuple(blocks),
        tuple(pieces for _, pieces in cuts),
        tuple(_first_byte(block) for block in blocks),
        able,
        tuple(i for i in able if blocks[i].dtype.kind in "iub"),
    )


def _first_byte(block: Block) -> int:
    assert block.stretch.base is not None
    return block.stretch.base[0] + block.start * block.dtype.itemsize


Beside = Mapping[str, tuple[Aggregator, Plan]]


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

    def __init__(self, aggregator: Aggregator, plan: Plan, beside: Beside = MappingProxyType({})) -> None:
        """`beside` says how parts that updates have beside the model are added up, and cut."""
        self.updates = 0
        self.beside = {part: PartialSum(*each) for part, each in beside.items()}
        self.aggregator = aggregator
        self._plan = plan
        self._accs: list[Any] = []
        self._floats: list[Any] = []  # of the plan's integers once more, as the float64 that they may become
        self._wider: set[int] = set()  # positions that an update which counts has answered with a wider kind
        self.rounds = False  # whether some update was longer than the float32 that it becomes

    @property
    def nbytes(self) -> int:
        """About the size of the accumulators."""
        return sum((part.nbytes for part in self.beside.values()), 8 * sum(block.size for block in self._plan.blocks))

    def stream(self) -> tuple[Schema, Iterator[memoryview]]:
        """The sum as a content: its schema, and its data bytes in layout order, of which nothing is copied.

        Raises `TypeError` or `WireError` where the aggregator does not say how its accumulator travels.
        """
        sums = [self, *self.beside.values()]
        written = [total.aggregator.wire.write(acc) for total in sums for acc in (*total._accs, *total._floats)]
        return pack(written, {"updates": self.updates, "wider": sorted(self._wider), "rounds": self.rounds})

    @classmethod
    def read(
        cls, aggregator: Aggregator, plan: Plan, content: Params, beside: Beside = MappingProxyType({})
    ) -> PartialSum:
        """The sum that `stream` wrote: a view of `content`, so that merging other sums into it writes there.

        Raises `WireError` for anything else.
        """
        total = cls(aggregator, plan, beside)
        accumulators, about = unpack(content)
        written = iter(accumulators)
        try:
            for each in [total, *total.beside.values()] if accumulators else ():
                each._read(written)
            if next(written, None) is not None:
                raise ValueError("it has more accumulators than blocks")
            total.updates, total._wider, total.rounds = about["updates"], {*about["wider"]}, about["rounds"]
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise WireError(f"this is no sum of updates to the model: {type(error).__name__}: {error}") from None
        return total

    def _read(self, written: Iterator[Written]) -> None:
        read = self.aggregator.wire.read
        self._accs = [read(block.dtype, *next(written)) for block in self._plan.blocks]
        self._floats = [read(_FLOAT64, *next(written)) for _ in self._plan.integers]

    def blocks_of(self, arrays: NDArrays) -> list[NDArray]:
        """An update as `add` takes it: 1-d arrays, one for each block of the plan, without copying where a tensor is one.

        `arrays` are row-major and have the model's shapes.
        """
        return [_take(arrays, pieces) for pieces in self._plan.pieces]

    def blocks_in(self, data: NDArray) -> list[NDArray]:
        """The blocks of an update that lies in one piece, as the model's data bytes do: views, not copies."""
        cuts = zip(self._plan.blocks, self._plan.begins, strict=True)
        return [np.ndarray(block.size, block.dtype, data, begin) for block, begin in cuts]

    def add(
        self,
        blocks: list[NDArray],
        weight: float,
        *,
        alike: bool = False,
        beside: Mapping[str, NDArrays] = MappingProxyType({}),
    ) -> None:
        """Folds one update in, in place; `alike` says that it has the model's dtypes. `beside` has its other parts."""
        for part, total in self.beside.items():
            total.add(total.blocks_of(beside[part]), weight, alike=True)
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
            position = self._plan.pieces[spot][0].position
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
        for part, total in self.beside.items():
            total.merge(other.beside[part])
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
        what: str = "the next version",
    ) -> Iterator[memoryview]:
        """The next version's data bytes in layout order, each view valid until the next.

        `base` reads the version that the clients started from; `number` is the round's, and `memory` keeps what the
        optimizer remembers; `averaged` are the positions of tensors that it does not step; `finish` and `what` are as in
        `combine`. Raises `NotFinite` as `combine` does.
        """
        schema, model = self.schema(), self._plan.model
        blocks = cut(find_stretches(schema, model, [model], averaged)) if self._accs else ()
        stepping = Stepping(optimizer, schema, number=number, memory=memory or forgetful(), what=what)
        yield from stepping.blocks(self._combined(blocks), None if base is None else (model, base), finish)

    def _combined(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, NDArray, bool]]:
        """These blocks of the next version, as `Stepping` takes them: out of the plan's, whose bounds may be others."""
        finished = lru_cache(maxsize=2)(self._finish)  # one that has become of a wider kind may lie amid another's tensors
        for block in blocks:
            ((first, tag),) = block.stretch.updates
            item = dtype_of(tag).itemsize
            low, parts, left = first + block.start * item, list[NDArray](), block.size
            while left:
                spot = bisect_right(self._plan.begins, low) - 1
                start = (low - self._plan.begins[spot]) // item
                parts.append(finished(spot)[start : start + left])
                left -= parts[-1].size
                low += parts[-1].size * item
            yield block, parts[0] if len(parts) == 1 else np.concatenate(parts), False

    def _finish(self, spot: int) -> NDArray:
        """A block of the plan, as the kind that it becomes."""
        plan, position = self._plan, self._plan.pieces[spot][0].position
        wider = position in self._wider
        acc = self._floats[plan.integers.index(spot)] if wider and spot in plan.integers else self._accs[spot]
        tag = plan.model.specs[position].dtype
        with np.errstate(over="ignore", invalid="ignore"):
            made = self.aggregator.finish(acc, dtype_of(wider_kind(tag) if wider else tag))
        return check_shape(made, plan.blocks[spot].size)


class Adding:
    """Makes sums of updates by these aggregators: the model's, and by name those of the parts beside it. How a model is cut
    is worked out once for all of them.
    """

    def __init__(self, aggregator: Aggregator, beside: Mapping[str, Aggregator]) -> None:
        self._aggregator, self._aggregators = aggregator, beside
        self._plan: Plan | None = None
        self._beside: Beside = {}

    def begin(self, model: Schema, beside: Mapping[str, Schema]) -> PartialSum:
        """A sum of no update so far; the schemas are those of what updates have."""
        return PartialSum(self._aggregator, self._cut(model, beside), self._beside)

    def read(self, model: Schema, beside: Mapping[str, Schema], content: Params) -> PartialSum:
        """The sum that somebody else has made, as `PartialSum.read`."""
        return PartialSum.read(self._aggregator, self._cut(model, beside), content, self._beside)

    def _cut(self, model: Schema, beside: Mapping[str, Schema]) -> Plan:
        if self._plan is None or self._plan.model != model or self._beside.keys() != beside.keys():
            self._plan = plan(model)
            self._beside = {part: (self._aggregators[part], plan(schema)) for part, schema in beside.items()}
        return self._plan


def _take(arrays: NDArrays, pieces: tuple[Piece, ...]) -> NDArray:
    if len(pieces) == 1:
        ((position, start, stop),) = pieces
        return arrays[position].reshape(-1)[start:stop]
    parts = [arrays[position].reshape(-1)[start:stop] for position, start, stop in pieces]
    if any(part.dtype != parts[0].dtype for part in parts):  # integers that were sent for floats, say
        parts = [part.astype(np.float64) for part in parts]
    return np.concatenate(parts)
