"""One pass over a round's contents, block by block of coordinates: read, transform, fold, step, write.

Knows schemas, blocks and the three algorithms it is given; knows no files and no clients: a source is a function that
reads bytes. Memory is a few blocks, however large the model and however many the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from umbel.aggregators import Aggregator, fold
from umbel.optimizers import Optimizer
from umbel.params import NDArray, Params
from umbel.transforms import Transform
from umbel.wire import Schema, TensorSpec, dtype_of

__all__ = ["Contribution", "Source", "combine", "in_memory", "stepped_schema"]

# Bytes of data at an offset, into a writable buffer.
Source = Callable[[int, memoryview], None]

# Coordinates per block. 10 updates of 25 M float32: 2^14 to 2^17 are within 5 %, 2^20 is 1.6× slower (out of L2).
BLOCK = 1 << 16


class Contribution(NamedTuple):
    """One update of a round: the number of its task, its schema, its data, its weight."""

    task: int
    schema: Schema
    source: Source
    weight: float


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring tensors that have one dtype and lie side by side in every content: read as one."""

    dtype: str
    size: int
    base: tuple[int, str] | None  # first byte and dtype in the version that the clients started from
    updates: tuple[tuple[int, str], ...]  # the same in each contribution


def stepped_schema(model: Schema | None, updates: Sequence[Schema]) -> Schema:
    """The schema of the next version: the model's, except that integers which every update answers with floats become F64.

    Without a model it is the first update's.
    """
    if model is None:
        return updates[0]
    specs = []
    for position, spec in enumerate(model.specs):
        whole = not spec.is_float and spec.dtype != "BOOL"
        floats = whole and all(update.specs[position].is_float for update in updates)
        specs.append(TensorSpec(spec.name, "F64", spec.shape) if floats and updates else spec)
    return Schema(tuple(specs))


def combine(
    schema: Schema,
    base: tuple[Schema, Source] | None,
    contributions: Sequence[Contribution],
    *,
    aggregator: Aggregator,
    optimizer: Optimizer,
    transform: Transform,
    chunk: int,
) -> Iterator[memoryview]:
    """The data bytes of the next version, in layout order.

    `schema` is the next version's; `contributions` ascend in their task and have its names and shapes. A yielded view is
    valid until the next one is asked for.
    """
    scratch = np.empty(BLOCK * 8, np.uint8)
    base_scratch = np.empty(BLOCK * 8, np.uint8)

    for run in _runs(schema, base[0] if base else None, contributions):
        dtype = dtype_of(run.dtype)
        for start in range(0, run.size, BLOCK):
            size = min(BLOCK, run.size - start)

            def blocks(run: _Run = run, start: int = start, size: int = size) -> Iterator[tuple[int, NDArray, float]]:
                for contribution, (begin, tag) in zip(contributions, run.updates, strict=True):
                    block = _read(contribution.source, begin, tag, start, size, scratch)
                    yield contribution.task, transform.receive(block), contribution.weight

            def old(run: _Run = run, start: int = start, size: int = size) -> NDArray:
                assert base is not None
                assert run.base is not None
                return _read(base[1], *run.base, start, size, base_scratch)

            combined = fold(aggregator, dtype, blocks(), chunk=chunk)
            new = optimizer.step(old, combined) if base is not None and dtype.kind in "fV" else combined
            yield np.ascontiguousarray(new, dtype).view(np.uint8).data


def in_memory(params: Params) -> Source:
    """A source that reads parameters in memory."""
    data = params.buffer.data

    def read(start: int, out: memoryview) -> None:
        out[:] = data[start : start + len(out)]

    return read


def _read(source: Source, begin: int, tag: str, start: int, size: int, scratch: NDArray) -> NDArray:
    dtype = dtype_of(tag)
    block = scratch[: size * dtype.itemsize]
    source(begin + start * dtype.itemsize, block.data)
    return block.view(dtype)


def _runs(schema: Schema, base: Schema | None, contributions: Sequence[Contribution]) -> Iterator[_Run]:
    """The tensors of `schema` in layout order, neighbours merged wherever every content has them side by side."""
    current: _Run | None = None
    for position in schema.layout:
        spec = schema.specs[position]
        following = _Run(
            spec.dtype,
            spec.size,
            None if base is None else (base.offsets[position], base.specs[position].dtype),
            tuple((c.schema.offsets[position], c.schema.specs[position].dtype) for c in contributions),
        )
        if current is not None and _adjacent(current, following):
            current = _Run(current.dtype, current.size + following.size, current.base, current.updates)
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
    return run.dtype == following.dtype and all(meets(this, that) for this, that in pairs)
