"""One step of the server over a whole model, and what the step leaves for the next one.

Knows an optimizer, blocks, schemas and places to read from and write to; knows no files, clients or rounds. The blocks come
in layout order, and each one's slots are read, stepped and written as it passes: no slot is ever in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from umbel.fold.blocks import Block, read_base
from umbel.fold.finite import FiniteBlocks
from umbel.optimizers import Optimizer
from umbel.params import DType, NDArray
from umbel.transforms import Finish
from umbel.wire import Schema, Source, TensorSpec, dtype_of

__all__ = ["CENTRE", "FACTS", "Memory", "Sink", "Stepping", "forgetful", "slot_schema"]

FACTS = "facts"  # the content beside a version that has what its transforms go by
CENTRE = "centre"  # the slot of a rule that keeps its result: the combined update's difference to the old version


class Sink(Protocol):
    """A place for a slot's data, which comes in order. Nothing is there before `commit`."""

    def write(self, data: memoryview) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class Memory(NamedTuple):
    """What a strategy keeps from step to step: model-shaped vectors by name.

    - `read(slot)` → its schema and data as the last step left them, None before the first
    - `write(slot, schema)` → where this step's go
    """

    read: Callable[[str], tuple[Schema, Source] | None]
    write: Callable[[str, Schema], Sink]


def slot_schema(model: Schema) -> Schema:
    """A slot's schema: the model's floating tensors in layout order, as float32, or float64 where they are that.

    >>> [spec.dtype for spec in slot_schema(Schema((TensorSpec("a", "F16", (2,)), TensorSpec("n", "I64", ())))).specs]
    ['F32']
    """
    specs = [model.specs[position] for position in model.layout]
    return Schema(tuple(TensorSpec(s.name, "F64" if s.dtype == "F64" else "F32", s.shape) for s in specs if s.is_float))


class Stepping:
    """The step of one round. `model` is the schema of the next version; `keeps` adds the slot `CENTRE`. `what` is what is
    stepped, for errors.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: Schema,
        *,
        number: int,
        memory: Memory,
        keeps: bool = False,
        what: str = "the next version",
    ) -> None:
        self._what = what
        self._optimizer = optimizer
        self._model = model
        self._number = number
        self._at = 0  # bytes of the slots that have passed
        names = (*optimizer.slots, *([CENTRE] if keeps else []))
        schema = slot_schema(model) if names else None
        self._old = [slot_source(memory, name, schema) for name in optimizer.slots] if schema else []
        self._checks = [FiniteBlocks(schema, f"what the server remembers as {name!r}") for name in names] if schema else []
        self._new: list[Sink] = []
        try:
            self._new += [memory.write(name, schema) for name in names] if schema else []
        except BaseException:
            self._abandon()
            raise

    def blocks(
        self,
        combined: Iterable[tuple[Block, NDArray, bool]],
        base: tuple[Schema, Source] | None,
        finish: Finish | None = None,
    ) -> Iterator[memoryview]:
        """The data bytes of the next version, made of its blocks as they are combined, each view valid until the next.

        Beside each block stands whether it is known to be finite as it is. `base` is the version that the clients started
        from; without one nothing is stepped. `finish` is what transforms do to a block before. A block that is averaged is
        no weights: it stays the combined one, and the optimizer remembers nothing of it.

        Raises `NotFinite` at the first block that would not be finite, or of which a slot would not be: then nothing is
        remembered either.
        """
        finite = FiniteBlocks(self._model, self._what)
        at = 0  # floating coordinates that have passed
        try:
            for block, combination, known in combined:
                new = combination
                if base is not None and block.is_float:
                    old = partial(read_base, base, block)
                    if finish is not None:
                        new = _finish_block(finish, old(), new, at)
                        at += block.size
                    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is noticed as such
                        new = self._step(old, new, block.stretch.averaged)
                with np.errstate(over="ignore"):
                    kept = np.ascontiguousarray(new, block.dtype)
                finite.check(kept, known=known and new is combination)
                yield kept.view(np.uint8).data
        except BaseException:
            self._abandon()
            raise
        for sink in self._new:
            sink.commit()
        self._new = []

    def _step(self, old: Callable[[], NDArray], combined: NDArray, averaged: bool) -> NDArray:
        if not self._new:
            return combined if averaged else self._optimizer.step(self._number, old, combined, ())[0]
        dtype = np.dtype(np.float64 if combined.dtype == np.float64 else np.float32)
        slots = [slot_block(source, self._at, combined.size, dtype) for source in self._old]
        before = old()
        new: NDArray = combined
        slots_after: Sequence[NDArray] = [np.zeros(combined.size) for _ in slots]
        if not averaged:
            new, slots_after = self._optimizer.step(self._number, lambda: before, combined, slots)
        kept = [*slots_after, combined.astype(np.float64) - before.astype(np.float64)]
        for sink, check, slot in zip(self._new, self._checks, kept, strict=False):  # the last one only where it is kept
            block = np.ascontiguousarray(slot, dtype)
            check.check(block)
            sink.write(block.view(np.uint8).data)
        self._at += combined.size * dtype.itemsize
        return new

    def _abandon(self) -> None:
        """The blocks have ended half-way: the slots stay as they were."""
        for sink in self._new:
            sink.abort()
        self._new = []


def _finish_block(finish: Finish, old: NDArray, combined: NDArray, at: int) -> NDArray:
    """What transforms make of a combined block, whose first floating coordinate is `at`."""
    before = old.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is noticed as such
        return (before + finish(combined.astype(np.float64) - before, at)).astype(combined.dtype)


def slot_source(memory: Memory, name: str, schema: Schema) -> Source:
    """Reads a slot in layout and dtypes of `schema`, whichever it was written in; zeros where it was never written."""
    kept = memory.read(name)
    if kept is None:
        return _zeros
    before, source = kept
    if before == schema:
        return source
    begins = dict(zip(before.names, before.offsets, strict=True))
    specs = {spec.name: spec for spec in before.specs}

    def read(start: int, out: memoryview) -> None:  # a tensor has become of another kind since: the others have moved
        _zeros(start, out)
        for spec, begin in zip(schema.specs, schema.offsets, strict=True):
            low, high = max(start, begin), min(start + len(out), begin + spec.nbytes)
            old = specs.get(spec.name)
            if low < high and old is not None and old.shape == spec.shape:
                now, then = dtype_of(spec.dtype), dtype_of(old.dtype)
                block = np.empty((high - low) // now.itemsize, then)
                source(begins[spec.name] + (low - begin) // now.itemsize * then.itemsize, block.view(np.uint8).data)
                with np.errstate(over="ignore"):
                    out[low - start : high - start] = block.astype(now).view(np.uint8).data

    return read


def slot_block(source: Source, start: int, size: int, dtype: DType) -> NDArray:
    """`size` coordinates of a slot from byte `start` on, as float64."""
    block = np.empty(size, dtype)
    source(start, block.view(np.uint8).data)
    return block.astype(np.float64)


def forgetful() -> Memory:
    """A memory that keeps nothing: every step is the first."""
    return Memory(lambda _: None, lambda _, __: _Nowhere())


class _Nowhere:
    def write(self, data: memoryview) -> None:
        pass

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass


def _zeros(_: int, out: memoryview) -> None:
    out[:] = bytes(len(out))
