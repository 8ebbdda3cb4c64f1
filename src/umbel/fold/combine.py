"""One pass over a round's contents, block by block of coordinates: read, combine, finish, step, write.

Knows schemas, blocks and the algorithms it is given; knows no files and no clients: a source is a function that reads
bytes. Memory is a few blocks, however large the model and however many the updates. A rule that plans takes a pass more, in
which nothing is written: from it come the inner products between the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import numpy as np

from umbel.aggregators import Aggregator, Rule, fold
from umbel.fold.blocks import Block, Spread, check_shape, cut, find_stretches, read_block
from umbel.fold.contribution import Contribution, rebase
from umbel.fold.finite import all_finite
from umbel.fold.ruling import Inputs, apply_rule, plan_of, rule_blocks
from umbel.fold.stepping import Memory, Stepping, forgetful
from umbel.optimizers import Optimizer
from umbel.params import NDArray
from umbel.transforms import Finish
from umbel.wire import Schema, Source

__all__ = ["combine"]


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
    what: str = "the next version",
) -> Iterator[memoryview]:
    """The data bytes of the next version, in layout order.

    `schema` is the next version's; `contributions` ascend in their task and have its names and shapes. A yielded view is
    valid until the next one is asked for.

    `finish` is what transforms do to the mean difference of floating blocks before the optimizer's step.

    `number` is the round's; `memory` keeps what aggregator and optimizer remember, and has it once the last block has been
    taken. `averaged` are the positions of tensors that the optimizer does not step. `guide` is an update of the server's
    own, which a rule compares the others with. `rng` makes the generator of the aggregator's draws. Blocks are computed by
    `spread`; the bits do not depend on it. `what` is what is made, for errors.

    Raises `TooFewUpdates` at the first block where a rule needs more, and `NotFinite` at the first that would not be finite:
    then nothing is remembered either.
    """
    memory = memory or forgetful()
    updates = [each.schema for each in (*contributions, *([guide] if guide else []))]
    stretches = list(find_stretches(schema, base[0] if base else None, updates, averaged))
    make: Callable[[Block], NDArray]
    if isinstance(aggregator, Rule):
        aggregator.check(len(contributions))
        inputs = Inputs(base, contributions, guide, aggregator.keeps, memory, schema)
        matrix = plan_of(aggregator, stretches, inputs, rng, spread)
        blocks = rule_blocks(stretches, inputs)
        make = partial(apply_rule, aggregator, matrix, inputs)
    else:
        blocks = cut(stretches)
        make = partial(_fold_block, aggregator, base, contributions, chunk)

    as_it_is = base is None or optimizer.replaces  # nothing will be done to a block any more

    def compute(block: Block) -> tuple[Block, NDArray, bool]:
        with np.errstate(over="ignore", invalid="ignore"):  # in whichever thread; what is too large is found below
            new = check_shape(make(block), block.size)
        # Looked at here, in its thread: of 10 updates of 25 M it is 1 % while a block is in the cache, and 10 % later.
        return block, new, (as_it_is or not block.is_float) and new.dtype == block.dtype and all_finite(new)

    keeps = isinstance(aggregator, Rule) and aggregator.keeps
    stepping = Stepping(optimizer, schema, number=number, memory=memory, keeps=keeps, what=what)
    yield from stepping.blocks(spread(compute, blocks), base, finish)


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
                values = rebase(contribution, values, base, block)
            yield contribution.task, values, contribution.weight

    return fold(aggregator, block.dtype, updates(), chunk=chunk)
