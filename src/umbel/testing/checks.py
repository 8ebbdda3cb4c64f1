"""What every aggregator and every strategy promises, as checks that anyone can run on one of their own.

Each raises `AssertionError` with what went wrong; they return nothing. They take seconds and need no network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from umbel.aggregators import Aggregator, Rule, fold
from umbel.aggregators.accumulators import pack, unpack
from umbel.dialogue import Config, Metrics
from umbel.errors import NotFinite, WireError
from umbel.fold import Contribution, combine, in_memory
from umbel.optimizers import sgd
from umbel.params import NDArray, NDArrays, Params
from umbel.rng import frozen_stream
from umbel.rounds.coordinator import Coordinator, Phase
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.memory import MemoryStore
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.testing.demand import demand
from umbel.testing.local import LocalRun, run_locally
from umbel.training import NumPyClient

__all__ = ["check_aggregator", "check_strategy"]

_SIZE = 700
_CLOSE = 1e-9  # relative: float64 sums in another order


def check_aggregator(aggregator: Aggregator | Rule, *, updates: int = 15, seed: int = 0) -> None:
    """Checks what the rest of Umbel relies on, with `updates` random updates.

    Of both kinds: what nobody has changed stays; equal updates come back (a rule with a plan may stop on the way to them);
    the same again gives the same bits; dtypes stay. Of an `Aggregator`: merging partial results equals adding, grouping
    and order change nothing beyond rounding, an update of weight 3 is three of weight 1, only the ratio of weights counts,
    what it is given is not changed, and a partial result that has travelled is the same. Of a `Rule`: without a plan
    no coordinate depends on others, and too few updates are refused.

    >>> from umbel.aggregators import krum, mean
    >>> check_aggregator(mean())
    >>> check_aggregator(krum(f=2))
    """
    draw = frozen_stream(seed, "check")
    blocks = [draw.standard_normal(_SIZE) for _ in range(updates)]
    weights = [int(weight) for weight in draw.randint(1, 50, updates)]
    if isinstance(aggregator, Rule):
        _check_rule(aggregator, blocks, weights)
    else:
        _check_sum(aggregator, blocks, weights)


def _check_sum(aggregator: Aggregator, blocks: Sequence[NDArray], weights: Sequence[float]) -> None:
    def sum_up(
        which: Sequence[int], chunk: int, scale: float = 1, dtype: str = "float64", values: Sequence[NDArray] = blocks
    ) -> NDArray:
        tasks = [(place, values[i].astype(dtype), weights[i] * scale) for place, i in enumerate(which)]
        before = [block.copy() for _, block, _ in tasks]
        result = fold(aggregator, np.dtype(dtype), tasks, chunk=chunk)
        for (_, block, _), copied in zip(tasks, before, strict=True):
            demand(np.array_equal(block, copied), "add() changed the block that it was given; copy it first")
        demand(result.shape == (_SIZE,), f"finish() returned the shape {result.shape} for blocks of ({_SIZE},)")
        return result

    everyone = range(len(blocks))
    whole = sum_up(everyone, len(blocks))
    demand(np.array_equal(whole, sum_up(everyone, len(blocks))), "the same updates gave other bits the second time")
    for chunk in (1, 2, 7):
        demand(_near(sum_up(everyone, chunk), whole), f"merging partial results of {chunk} updates is not adding them")
    demand(_near(sum_up(everyone[::-1], 3), whole), "another order of updates gave another result")
    demand(_near(sum_up(everyone, 3, scale=64), whole), "all weights times 64 gave another result: only their ratio counts")
    twice, thrice = [(0, blocks[0], 2), (1, blocks[1], 3)], [(i, blocks[i > 1], 1) for i in range(5)]
    counted = [fold(aggregator, np.dtype("float64"), tasks, chunk=5) for tasks in (twice, thrice)]
    demand(_near(*counted), "an update of weight 3 gave another result than three such updates of weight 1")
    equal = [blocks[0]] * len(blocks)
    demand(_near(sum_up(everyone, 3, values=equal), blocks[0]), "equal updates did not come back")
    demand(_same_bits([whole], [_hand_over(aggregator, blocks, weights)]), "a partial result that travelled is another")
    for dtype in ("float16", "float32", "float64", "int32"):
        result = sum_up(everyone, 3, dtype=dtype)
        demand(result.dtype == np.dtype(dtype), f"updates of {dtype} became {result.dtype}")


def _hand_over(aggregator: Aggregator, blocks: Sequence[NDArray], weights: Sequence[float]) -> NDArray:
    """All updates, folded by one who hands on after each what there is, as a content."""
    dtype = np.dtype("float64")
    acc = aggregator.init(dtype)
    for block, weight in zip(blocks, weights, strict=True):
        acc = aggregator.add(acc, block.copy(), weight)
        try:
            schema, data = pack([aggregator.wire.write(acc)], {})
        except (TypeError, WireError) as error:
            raise AssertionError(f"a partial result cannot travel: {error}") from None
        content = Params(schema, np.frombuffer(bytearray(b"".join(data)), np.uint8))
        acc = aggregator.wire.read(dtype, *unpack(content)[0][0])
    return aggregator.finish(acc, dtype)


def _check_rule(rule: Rule, blocks: Sequence[NDArray], weights: Sequence[float]) -> None:
    base = blocks[0] * 0.5

    def apply(values: Sequence[NDArray], start: NDArray = base, dtype: str = "float64") -> NDArray:
        model = Params.of([start.astype(dtype)])
        params = [Params.of([value.astype(dtype)]) for value in values]
        data = combine(
            model.schema,
            (model.schema, in_memory(model)),
            [Contribution(i, p.schema, in_memory(p), w) for i, (p, w) in enumerate(zip(params, weights, strict=False))],
            aggregator=rule,
            optimizer=sgd(),
            chunk=1,
            rng=lambda: frozen_stream(0, "mix"),
        )
        try:
            return np.frombuffer(b"".join(bytes(block) for block in data), dtype)
        except NotFinite as error:
            raise AssertionError(f"{dtype} became infinite or NaN: {error}") from None

    whole = apply(blocks)
    demand(np.array_equal(whole, apply(blocks)), "the same updates gave other bits the second time")
    demand(_near(apply([base] * len(blocks)), base), "clients that changed nothing changed the model")
    step = np.full(_SIZE, 1e-4)
    made = apply([base + step] * len(blocks)) - base
    part = float(made @ step / (step @ step))
    demand(np.allclose(made, part * step, atol=1e-9), "equal updates gave a model that is not on the way to them")
    demand(0 <= part <= 1 + 1e-6, f"equal updates moved the model {part:.3f} times as far as they are")
    whole_way = part > 1 - 1e-6
    demand(whole_way or rule.plan is not None, f"equal updates did not come back: the model went {part:.3f} of the way")
    for dtype in ("float16", "float32", "float64"):
        apply(blocks, dtype=dtype)  # finite, as in float64
    if rule.plan is None:
        pieces = [apply([block[part] for block in blocks], base[part]) for part in (slice(0, 300), slice(300, None))]
        demand(np.array_equal(np.concatenate(pieces), whole), "a coordinate's result depends on its neighbours; plan() may")
    if rule.least > 1:
        try:
            apply(blocks[: rule.least - 1])
        except ValueError:
            raise
        except Exception as error:
            demand("at least" in str(error), f"too few updates were refused without a reason: {error}")
        else:
            demand(False, f"{rule.least - 1} updates were combined; the rule needs {rule.least}")


def check_strategy(make: Callable[[], Strategy | Algorithm], *, rounds: int = 30, clients: int = 12, seed: int = 0) -> None:
    """Runs a strategy on a problem whose answer is known, and stops and resumes it.

    `make()` gives a new strategy, or an `Algorithm`; its initial parameters, where it has some, are `[zeros(5, float32)]`.
    Each client minimises ‖w − w*‖²/2, where w* = (1, …, 5)/5 for all, by ten steps of gradient descent. Checked: the model
    comes nearer to w*, at least half of the way in `rounds`; clients that change nothing change nothing; a client that
    raises ends no run; the same run again gives the same bits; and so does a run that a new process goes on with after a
    third of the rounds, but for asynchronous paces. What fails there keeps something in attributes, which no other process
    has: keep it in an optimizer's slots.

    >>> from umbel.server.strategy import FedAvg
    >>> check_strategy(FedAvg)
    """
    best = np.arange(1, 6, dtype=np.float32) / 5

    def run(number: int, *, store: MemoryStore | None = None, going_on: Coordinator | None = None, **how: float) -> LocalRun:
        learners = _learners(clients, best, **how)
        return run_locally(make(), learners, num_rounds=number, seed=seed, store=store, coordinator=going_on)

    whole = run(rounds)
    demand(bool(whole.arrays), "the run ended without a model")
    begin, end = float(np.linalg.norm(best)), float(np.linalg.norm(whole.arrays[0] - best))
    demand(end < begin / 2, f"after {rounds} rounds the model is {end:.3f} from the optimum; it began at {begin:.3f}")
    still = run(3, rate=0.0).arrays[0]
    demand(_near(still, np.zeros(5)), f"clients that change nothing made {still.tolist()} of zeros")
    broken = run(3, broken=1)
    demand(broken.coordinator.state.completed == 3, "a client that raised ended the run")

    demand(_same_bits(whole.arrays, run(rounds).arrays), "the same run again gave other bits")
    if whole.coordinator.rules.pace.carry_over:  # a run that has ended has given up what it carried
        return
    contents, third = MemoryContents(), max(rounds // 3, 1)
    first = run(third, store=MemoryStore(contents))
    if first.coordinator.state.completed < third:  # its `until` has ended it
        return
    again = run(rounds, store=MemoryStore(contents), going_on=_between_rounds(first, rounds, clients))
    demand(
        _same_bits(whole.arrays, again.arrays),
        f"a run that a new process went on with after round {third} gave other bits: something is in attributes only",
    )


@dataclass
class _Learner(NumPyClient):
    best: NDArray
    rate: float
    broken: bool

    def get_parameters(self, config: Config) -> NDArrays:
        return [np.zeros_like(self.best)]

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        if self.broken:
            raise RuntimeError("this client is broken")
        (w,) = parameters
        loss = float(((w - self.best) ** 2).sum() / 2)
        for _ in range(10):
            w = w - self.rate * (w - self.best)
        return [w.astype(np.float32)], 10, {"loss": loss}

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, Metrics]:
        return float(((parameters[0] - self.best) ** 2).sum() / 2), 10, {}


def _learners(count: int, best: NDArray, *, rate: float = 0.1, broken: float = 0) -> Mapping[str, NumPyClient]:
    return {f"{i:03}": _Learner(best, rate, i < broken) for i in range(count)}


def _between_rounds(done: LocalRun, rounds: int, clients: int) -> Coordinator:
    """The coordinator of a run that has ended, as one that waits for its next round."""
    state = copy.deepcopy(done.coordinator.state)
    state.num_rounds, state.phase, state.exchange = rounds, Phase.WAITING, done.coordinator.rules.exchanges[0].name
    state.round, state.attempt, state.needed = state.completed + 1, 0, clients
    return Coordinator(done.coordinator.rules, state)


def _near(one: NDArray, other: NDArray) -> bool:
    return bool(np.allclose(one.astype(np.float64), other.astype(np.float64), rtol=_CLOSE, atol=1e-12))


def _same_bits(one: NDArrays, other: NDArrays) -> bool:
    return [array.tobytes() for array in one] == [array.tobytes() for array in other]
