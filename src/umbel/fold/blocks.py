"""A version of the model as blocks of coordinates, which lie in different places of different contents.

Knows schemas and sources; knows no clients, and not what is done to a block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from umbel.errors import StrategyError
from umbel.params import DType, NDArray
from umbel.wire import Schema, Source, dtype_of

__all__ = [
    "Block",
    "Piece",
    "Spread",
    "Stretch",
    "check_shape",
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
    contents = [*([base] if base is not None else []), *updates]
    layouts: list[Schema] = []  # those of the contents, each once: 0.25 s for 200,000 tensors in 3 updates, which took 1.4 s
    which = []  # place in `layouts` for each content
    for each in contents:
        place = next((i for i, other in enumerate(layouts) if other is each or other.specs == each.specs), len(layouts))
        layouts += [each] if place == len(layouts) else []
        which.append(place)

    def stretch(kind: tuple[str, bool], size: int, begins: Sequence[tuple[int, str]]) -> Stretch:
        places = [begins[place] for place in which]
        of_base = places.pop(0) if base is not None else None
        return Stretch(kind[0], size, of_base, tuple(places), kind[1])

    kind, size, begins, alone = ("", False), 0, list[tuple[int, str]](), False
    follows: list[tuple[int, str]] = []  # where what would go on with the stretch begins
    for position in schema.layout:
        spec = schema.specs[position]
        here = [(layout.offsets[position], layout.specs[position].dtype) for layout in layouts]
        ours, before = (spec.dtype, spec.is_float and position in averaged), alone
        alone = position in apart
        if here != follows or ours != kind or before or alone:
            if size or before:
                yield stretch(kind, size, begins)
            kind, size, begins = ours, 0, here
        count = spec.size
        size += count
        follows = [(begin + count * dtype_of(tag).itemsize, tag) for begin, tag in here]
    if size or alone:
        yield stretch(kind, size, begins)


def cut(stretches: Iterable[Stretch], size: int | None = None) -> Iterator[Block]:
    """Blocks of `size` coordinates at most, `BLOCK` where nothing is said, in layout order."""
    slot, size = 0, size or BLOCK
    for stretch in stretches:
        floating = dtype_of(stretch.dtype).kind in "fV"
        for start in range(0, stretch.size or 1, size):
            block = Block(stretch, start, min(size, stretch.size - start), slot if floating else -1)
            yield block
            slot += block.size * slot_dtype(block).itemsize if floating else 0


def check_shape(values: NDArray, size: int) -> NDArray:
    """What somebody's aggregator has made of a block. Raises `StrategyError` where that is no block of `size` numbers."""
    if not isinstance(values, np.ndarray) or values.shape != (size,):
        found = f"shape {values.shape}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise StrategyError(f"the aggregator made {found} of blocks of shape ({size},); make one of their shape")
    return values


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
