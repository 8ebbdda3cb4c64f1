"""Parts of an update beside the model's values: how each is combined, and how that steps the slot of the same name.

Knows aggregators, optimizers, schemas and memory; knows no files, clients or rounds. A slot is written after the model's
last block: all of a step is there, or nothing of it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from umbel.aggregators import Aggregator, Rule, mean
from umbel.errors import StrategyError, WireError
from umbel.fold.stepping import CENTRE, Memory
from umbel.optimizers import Optimizer, sgd
from umbel.params import NDArray, NDArrays, Params, as_arrays
from umbel.update import MODEL
from umbel.wire import Schema, Source, TensorSpec

__all__ = ["Part", "check_names", "first_of", "slots_of_part", "step_beside"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What becomes of a part that updates have beside the model's values: of control variates, say.

    The server keeps a slot of the part's name, with each version of the model. Clients are sent it with each fit task, as
    `context.parts[name]`, and answer with arrays of the same shapes and dtypes, by `context.send(name, arrays)`.

    - `aggregator`: how the arrays of a round become one; they weigh what the updates weigh
    - `optimizer`: the step from the slot, its `old`, and what the aggregator has made, to the next slot. `sgd()` takes what
      was made; `Optimizer(lambda number, old, made, slots: (old() + made, ()))` adds it
    - `first`: arrays of float32 or float64, or a mapping of names to them, with which the slot begins; None for zeros, one
      array for each of the model's, of its name and shape, float32, or float64 where the model's is that

    An update from an older version of the model counts as it was sent.
    """

    aggregator: Aggregator | Rule = mean()  # noqa: RUF009  # a value
    optimizer: Optimizer = sgd()  # noqa: RUF009  # a value
    first: NDArrays | Mapping[str, NDArray] | None = None

    def __post_init__(self) -> None:
        try:
            arrays = [] if self.first is None else as_arrays(self.first)
        except WireError as error:
            raise ValueError(f"first= of a part has what cannot travel: {error}") from None
        for position, array in enumerate(arrays):
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"a part's slot is of float32 or float64; first= has {array.dtype} as array {position}")


def first_of(part: Part, model: Schema) -> Params:
    """The slot with which a run begins."""
    if part.first is not None:
        return Params.of(part.first)
    specs = [TensorSpec(spec.name, "F64" if spec.dtype == "F64" else "F32", spec.shape) for spec in model.specs]
    slot = Params.empty(Schema(tuple(specs)))
    slot.buffer[:] = 0
    return slot


def slots_of_part(name: str, part: Part) -> list[str]:
    """The names of all that is remembered for a part."""
    keeps = isinstance(part.aggregator, Rule) and part.aggregator.keeps
    return [name, *(f"{name}.{slot}" for slot in (*part.optimizer.slots, *([CENTRE] if keeps else [])))]


Step = Callable[[str, Part, tuple[Schema, Source], Memory], Iterator[memoryview]]


def step_beside(
    model: Iterator[memoryview], parts: Mapping[str, Part], memory: Memory, step: Step
) -> Iterator[memoryview]:
    """The model's bytes; after the last of them the slots of the parts are stepped.

    `step(name, part, old, memory)` yields the bytes of a part's next slot; `memory` is the part's own. Raises
    `StrategyError` where `memory` has no such slot.
    """
    yield from model
    for name, part in parts.items():
        old = memory.read(name)
        if old is None:
            raise StrategyError(
                f"the server's {name!r}, which these updates step, is not kept: a strategy with parts= is for runs, and "
                "aggregate_fit() was called outside of one"
            )
        sink = memory.write(name, old[0])
        try:
            for block in step(name, part, old, _within(memory, name)):
                sink.write(block)
        except BaseException:
            sink.abort()
            raise
        sink.commit()


def _within(memory: Memory, name: str) -> Memory:
    return Memory(lambda slot: memory.read(f"{name}.{slot}"), lambda slot, schema: memory.write(f"{name}.{slot}", schema))


def check_names(parts: Mapping[str, Part], taken: frozenset[str]) -> None:
    """Raises `ValueError` for a part whose name cannot be a file's, or is that of something else."""
    for name, part in parts.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"parts= has {name!r}; a part's name is a word, such as 'control'")
        if name == MODEL or name in taken:
            raise ValueError(f"parts= has {name!r}, which is the name of something else; give the part another one")
        if not isinstance(part, Part):
            raise ValueError(f"parts= has a {type(part).__name__} for {name!r}; it is a Part(aggregator=…, optimizer=…)")
