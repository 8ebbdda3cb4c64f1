"""A round's results as the next version: a recipe that is read block by block, nothing is in memory.

Knows an algorithm, results and the round that they are of; knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from umbel.aggregators import Rule, chunk_size
from umbel.dialogue import Parameters
from umbel.dialogue.results import Result, Round
from umbel.errors import StrategyError, WireError
from umbel.fold import (
    Contribution,
    Memory,
    Part,
    PartialSum,
    all_finite,
    combine,
    in_memory,
    statistics_of,
    step_beside,
    stepped_schema,
)
from umbel.named import are_numbers
from umbel.params import NDArrays, Params, as_arrays, named_as
from umbel.remarks import Remark, remark
from umbel.rng import frozen_stream
from umbel.rounds.messages import Kind
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.kinds import is_rounded, remark_rounding
from umbel.transforms import Finish, Totals
from umbel.wire import Schema, Source, short, shorten

__all__ = ["make_step", "summarize"]


def make_step(
    algorithm: Algorithm, round_: Round, results: Sequence[Result], failures: int
) -> tuple[Parameters | None, dict[str, object]]:
    """The next version, None where the one that is there stays, and the metrics of the round.

    A result of which its server knows that it is not like the model, or not finite, is a failure. Raises `TooFewUpdates`
    where the aggregator needs more, and `StrategyError` where names or shapes differ.
    """
    given = len(results)
    results = _leave_out_unfit(results)
    if not algorithm.enough(Kind.FIT, len(results), failures + given - len(results)):
        return None, {}
    if algorithm.combine is not None:
        made, kept, beside = algorithm.combine(round_, results)
        metrics = algorithm.measure(Kind.FIT, kept)[1] if kept else {}
        return _kept(round_, made, algorithm), {**metrics, **beside}
    rule = isinstance(algorithm.aggregator, Rule)  # its numbers may be other than weights: losses, some of them missing
    weights = _one_each("weigh", algorithm.weigh(round_, results), results, None if rule else 0)
    step = None
    if rule or any(weight > 0 for weight in weights):
        guide = None if algorithm.guide is None else algorithm.guide(round_, results)
        shares = None if algorithm.shares is None else algorithm.shares(round_, results)
        if shares is not None:
            _one_each("shares", shares, results, -np.inf)  # finite ones
        step = _kept(round_, _combine(algorithm, round_, results, weights, shares, guide), algorithm)
    return step, algorithm.measure(Kind.FIT, results)[1]


def summarize(algorithm: Algorithm, results: Sequence[Result], failures: int) -> tuple[object, dict[str, object]]:
    """The loss of an evaluation by clients, None for none, and their metrics as one."""
    if not algorithm.enough(Kind.EVALUATE, len(results), failures):
        return None, {}
    return algorithm.measure(Kind.EVALUATE, results)


def _one_each(
    question: str, numbers: Sequence[float], results: Sequence[Result], least: float | None
) -> Sequence[float]:
    """Raises `StrategyError` for what is not one number for each result: finite and `least` or more, unless that is None."""
    given = np.asarray(numbers)
    sound = given.shape == (len(results),) and given.dtype.kind in "biuf"
    if not sound or (least is not None and not (np.isfinite(given) & (given >= least)).all()):
        rule = f"{len(results)} numbers, one a result" + (", 0 or more" if least == 0 else "")
        raise StrategyError(f"{question}() returned {short(numbers)}; it returns {rule}")
    return numbers


def _kept(round_: Round, made: Parameters | None, algorithm: Algorithm) -> Parameters | None:
    if round_.keep is not None and made is not None and (algorithm.goes_on or algorithm.combine is not None):
        round_.keep(made)
    return made


def _combine(
    algorithm: Algorithm,
    round_: Round,
    results: Sequence[Result],
    weights: Sequence[float],
    shares: Sequence[float] | None,
    guide: NDArrays | None,
) -> Parameters:
    """What becomes of the results. Where these are those that workers have added up, all of them and as they are, only the
    step is left to make.
    """
    aggregator, number = algorithm.aggregator, round_.number
    if isinstance(aggregator, Rule):
        aggregator.check(len(results))
    plain = guide is None and shares is None and not algorithm.mixes
    total = _sum_of(results, weights, algorithm) if plain else None
    finish = _finish(algorithm, round_, results)
    if total is not None and round_.base is not None:
        if total.rounds:
            remark_rounding()
        model, source = round_.base
        step = partial(
            total.blocks,
            source,
            algorithm.optimizer,
            number=number,
            memory=round_.memory,
            averaged=_averaged(algorithm, model),
            finish=finish,
        )
        beside = partial(_step_sum, total, number)
        return Parameters.lazy(
            total.schema(), lambda: step_beside(step(), algorithm.beside, round_.memory, beside)
        )
    model, source = base = round_.base or _read(results[0])  # without any version it is as if the first update was it
    readers = [_read(result, model) for result in results]
    shapes = [spec.shape for spec in model.specs]
    for result, (schema, _) in zip(results, readers, strict=True):
        if schema.specs != model.specs:  # nearly always alike
            _check_shapes(f"client {result.client} returned", schema, shapes)
    if is_rounded((schema for schema, _ in readers), model):
        remark_rounding()
    contributions = [
        Contribution(
            result.provenance.task, *reader, weight, share, None if algorithm.mixes else _origin(result, model)
        )
        for result, reader, weight, share in zip(results, readers, weights, shares or [1.0] * len(readers), strict=True)
    ]
    trained = [schema for (schema, _), result in zip(readers, results, strict=True) if result.num_examples > 0]
    schema = stepped_schema(model, trained or [schema for schema, _ in readers])
    whole = partial(
        combine,
        schema,
        base,
        contributions,
        aggregator=aggregator,
        optimizer=algorithm.optimizer,
        finish=finish,
        chunk=chunk_size(round_.cohort),
        number=number,
        memory=round_.memory,
        averaged=_averaged(algorithm, model),
        guide=None if guide is None else _guide(guide, model, len(contributions)),
        rng=partial(frozen_stream, round_.seed, "mix", number),
        spread=round_.spread,
    )
    if not algorithm.beside:
        return Parameters.lazy(schema, whole)
    step_part = partial(_step_files, results, round_, weights)
    return Parameters.lazy(schema, lambda: step_beside(whole(), algorithm.beside, round_.memory, step_part))


def _step_sum(
    total: PartialSum, number: int, name: str, part: Part, old: tuple[Schema, Source], memory: Memory
) -> Iterator[memoryview]:
    """The next slot of a part that workers have added up."""
    return total.beside[name].blocks(old[1], part.optimizer, number=number, memory=memory, what=_remembered(name))


def _step_files(
    results: Sequence[Result],
    round_: Round,
    weights: Sequence[float],
    name: str,
    part: Part,
    old: tuple[Schema, Source],
    memory: Memory,
) -> Iterator[memoryview]:
    """The next slot of a part, out of the files that clients have sent."""
    contributions = []
    for result, weight in zip(results, weights, strict=True):
        found = result.provenance.beside.get(name)
        if found is None:
            raise StrategyError(
                f"the update of client {result.client} has no part {name!r} any more: its parameters were replaced. Pass "
                "results on to aggregate_fit() as they are"
            )
        contributions.append(Contribution(result.provenance.task, *found, weight))
    return combine(
        old[0],
        old,
        contributions,
        aggregator=part.aggregator,
        optimizer=part.optimizer,
        chunk=chunk_size(round_.cohort),
        number=round_.number,
        memory=memory,
        rng=partial(frozen_stream, round_.seed, "mix", name, round_.number),
        spread=round_.spread,
        what=_remembered(name),
    )


def _remembered(name: str) -> str:
    return f"what the server remembers as {name!r}"


def _read(result: Result, model: Schema | None = None) -> tuple[Schema, Source]:
    """An update, with `model` in the order of its names."""
    assert result.parameters is not None  # who trains answers with parameters
    schema, source = result.parameters.reader()
    if model is None or schema.names == model.names:
        return schema, source
    schema, source = result.parameters.named_as(model).reader()
    _check_names(f"client {result.client} returned", schema, model)
    return schema, source


def _finish(algorithm: Algorithm, round_: Round, results: Sequence[Result]) -> Finish | None:
    """What the transforms do to the round's mean difference; nothing where no run has had clients encode their updates."""
    if not algorithm.chain.links or round_.keep is not None:
        return None
    totals = Totals(round_.number, len(results), sum(result.num_examples for result in results), round_.secret)
    return algorithm.chain.finish(totals, round_.transform_facts)


def _leave_out_unfit(results: Sequence[Result]) -> Sequence[Result]:
    """The results without those of which it is known that they cannot be combined."""
    unfit = [(each.client, each.unfit) for each in results if each.unfit]
    if not unfit:
        return results
    (client, why), more = unfit[0], len(unfit) - 1
    others = f" So are those of {more} others." if more else ""
    remark(
        Remark(
            (),
            f"the update of client {client} is left out: {why}{others} Where the strategy's class says receives = "
            '"updates", its client is told',
        )
    )
    return [each for each in results if not each.unfit]


def _sum_of(results: Sequence[Result], weights: Sequence[float], algorithm: Algorithm) -> PartialSum | None:
    """The sum that workers have made of exactly these results; None where there is none, or the algorithm wants another."""
    parameters = results[0].parameters
    first = None if parameters is None else parameters.in_sum
    if parameters is None or first is None or first.total is None:
        return None
    if parameters.is_alone and first.total.aggregator != algorithm.aggregator:
        return None
    inside = []
    for result, weight in zip(results, weights, strict=True):
        found = None if result.parameters is None else result.parameters.in_sum
        if found is None or found.total is not first.total:
            return None
        inside.append((found.task, weight))
    return first.total if inside == list(first.weights.items()) else None


def _origin(result: Result, model: Schema) -> Source | None:
    """Reads the version that a result started from, in the schema of the base; None where it is the base."""
    if result.provenance.origin is None:
        return None
    schema, source = result.provenance.origin
    if schema == model:
        return source
    old = Params.empty(schema)  # integers have become floats since: a matter of one round in a run
    source(0, old.buffer.data)
    params = Params.empty(model)
    for new, before in zip(params.arrays(), old.arrays(), strict=True):
        new[...] = before
    return in_memory(params)


def _averaged(algorithm: Algorithm, model: Schema) -> frozenset[int]:
    """The positions that the step leaves alone; nothing to look for where it takes every combined update as it is."""
    return frozenset() if algorithm.optimizer.replaces else statistics_of(model, algorithm.averaged)


def _guide(arrays: NDArrays, model: Schema, number: int) -> Contribution:
    try:
        params = Params.of(named_as(as_arrays(arrays), model.names))
    except WireError as error:
        raise StrategyError(f"root_fit() returned arrays that cannot travel: {error}") from None
    _check_names("root_fit() returned", params.schema, model)
    _check_shapes("the server's own update has", params.schema, [spec.shape for spec in model.specs])
    for position, array in enumerate(params.arrays()):
        if not all_finite(array.reshape(-1)):
            value = float(array[~np.isfinite(array)][0])
            raise StrategyError(f"root_fit() returned {value} in array {position}; return an update of finite numbers")
    return Contribution(number, params.schema, in_memory(params), 0)


def _check_names(who: str, schema: Schema, model: Schema) -> None:
    if schema.names != model.names and len(schema) == len(model) and not are_numbers(schema.names):
        odd = next(name for name in schema.names if name not in set(model.names))
        raise StrategyError(
            f"{who} a mapping that has {short(odd)}, and the model has {shorten([*map(short, model.names)])}. Return every "
            "array of the model, under its name, or a list"
        )


def _check_shapes(who: str, schema: Schema, want: Sequence[tuple[int, ...]]) -> None:
    got = [spec.shape for spec in schema.specs]
    if got != want:
        raise StrategyError(
            f"{who} arrays of shapes {got[:8]}, the model has {want[:8]}; "
            "drop such results before you call aggregate_fit"
        )
