"""A version of the model as blocks of coordinates, which lie in different places of different contents.

Knows schemas and sources; knows no clients, and not what is done to a block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from umbel.params import DType, NDArray
from umbel.wire import Schema, Source, dtype_of

__all__ = [
    "Block",
    "Piece",
    "Spread",
    "Stretch",
    "cut",
    "cut_apart",
    "find_stretches",
    "pieces_of",
    "read_base",
    "read_block",
    "slot_dtype",
]

# Coordinates per block. 10 updates of 25 M float32: 2^14 to 2^17 are within 5 %, 2^20 is 1.6× slower (out of L2).
BLOCK = 1 << 16

_A = TypeVar("_A")
_B = TypeVar("_B")


class Spread(Protocol):
    """`map`, or one that computes several items at a time and still yields the results in order."""

    def __call__(self, function: Callable[[_A], _B], items: Iterable[_A], /) -> Iterator[_B]: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring tensors that have one dtype and lie side by side in every content: read as one."""

    dtype: str
    size: int
    base: tuple[int, str] | None  # first byte and dtype in the version that the clients started from
    updates: tuple[tuple[int, str], ...]  # the same in each contribution, and in the guide
    averaged: bool = False  # whether the optimizer leaves them alone


class Piece(NamedTuple):
    """Part of one tensor."""

    position: int
    start: int
    stop: int


class Block(NamedTuple):
    """Part of a stretch: coordinates `start` to `start + size`; `slot` is the first byte in a slot, -1 where it has none."""

    stretch: Stretch
    start: int
    size: int
    slot: int

    @property
    def dtype(self) -> DType:
        return dtype_of(self.stretch.dtype)

    @property
    def is_float(self) -> bool:
        return self.slot >= 0


def find_stretches(
    schema: Schema,
    base: Schema | None,
    updates: Sequence[Schema],
    averaged: Collection[int] = (),
    apart: Collection[int] = (),
) -> Iterator[Stretch]:
    """The tensors of `schema` in layout order, neighbours merged wherever every content has them side by side.

    Tensors that are `apart` are stretches of their own, also where they have no values.
    """
    current: Stretch | None = None
    alone = False
    for position in schema.layout:
        spec = schema.specs[position]
        following = Stretch(
            spec.dtype,
            spec.size,
            None if base is None else (base.offsets[position], base.specs[position].dtype),
            tuple((update.offsets[position], update.specs[position].dtype) for update in updates),
            spec.is_float and position in averaged,
        )
        before, alone = alone, position in apart
        if current is not None and not (before or alone) and _adjacent(current, following):
            current = replace(current, size=current.size + following.size)
            continue
        if current is not None and (current.size or before):
            yield current
        current = following
    if current is not None and (current.size or alone):
        yield current


def _adjacent(stretch: Stretch, following: Stretch) -> bool:
    def meets(this: tuple[int, str], that: tuple[int, str]) -> bool:
        return this[1] == that[1] and this[0] + stretch.size * dtype_of(this[1]).itemsize == that[0]

    bases = [(stretch.base, following.base)] if stretch.base and following.base else []
    pairs = [*zip(stretch.updates, following.updates, strict=True), *bases]
    alike = (stretch.dtype, stretch.averaged) == (following.dtype, following.averaged)
    return alike and all(meets(this, that) for this, that in pairs)


def cut(stretches: Iterable[Stretch], size: int | None = None) -> Iterator[Block]:
    """Blocks of `size` coordinates at most, `BLOCK` where nothing is said, in layout order."""
    slot, size = 0, size or BLOCK
    for stretch in stretches:
        floating = dtype_of(stretch.dtype).kind in "fV"
        for start in range(0, stretch.size or 1, size):
            block = Block(stretch, start, min(size, stretch.size - start), slot if floating else -1)
            yield block
            slot += block.size * slot_dtype(block).itemsize if floating else 0


def cut_apart(model: Schema, apart: Collection[int]) -> list[tuple[Block, tuple[Piece, ...]]]:
    """The blocks of a model's own layout, and of which parts of which tensors each is."""
    blocks = [*cut(find_stretches(model, model, (), apart=apart))]
    return list(zip(blocks, pieces_of(model, blocks, apart), strict=True))


def pieces_of(model: Schema, blocks: Iterable[Block], apart: Collection[int]) -> Iterator[tuple[Piece, ...]]:
    """For each block of a model's own layout the parts of tensors that lie in it."""
    positions = iter([position for position in model.layout if model.specs[position].size or position in apart])
    position, at = -1, 0
    for block in blocks:
        left, pieces = block.size, list[Piece]()
        while left or not pieces:
            if not at:
                position = next(positions)
            size = model.specs[position].size
            stop = min(at + left, size)
            pieces.append(Piece(position, at, stop))
            left -= stop - at
            at = stop if stop < size else 0
        yield tuple(pieces)


def slot_dtype(block: Block) -> DType:
    """The dtype in which a slot keeps this block's coordinates: float64 for float64, else float32."""
    return np.dtype(np.float64 if block.dtype == np.float64 else np.float32)


def read_base(base: tuple[Schema, Source], block: Block) -> NDArray:
    """The block of the version that the clients started from."""
    assert block.stretch.base is not None
    return read_block(base[1], *block.stretch.base, block.start, block.size, np.empty(block.size * 8, np.uint8))


def read_block(source: Source, begin: int, tag: str, start: int, size: int, scratch: NDArray) -> NDArray:
    """Reads coordinates `start` to `start + size` of what begins at byte `begin`, of dtype `tag`; a view of `scratch`."""
    dtype = dtype_of(tag)
    block = scratch[: size * dtype.itemsize]
    source(begin + start * dtype.itemsize, block.data)
    return block.view(dtype)
