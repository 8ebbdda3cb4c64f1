"""A round's results as the next version's parameters: a recipe that is read block by block, nothing is in memory.

Knows results and the parts of a strategy; knows no run: where a result stands in one, its `place` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from umbel.aggregators import Rule, chunk_size
from umbel.errors import ClientFailed, StrategyError, WireError
from umbel.exchange import FitRes, Parameters, Place
from umbel.fold import Contribution, Memory, PartialSum, all_finite, combine, in_memory, statistics_of, stepped_schema
from umbel.params import NDArrays, Params
from umbel.remarks import Remark, remark
from umbel.rng import frozen_stream
from umbel.strategies.base import FailedResult, Parts
from umbel.strategies.clients import ClientProxy
from umbel.strategies.kinds import is_rounded, remark_rounding
from umbel.transforms import Finish, Totals, chain
from umbel.wire import Schema, Source

__all__ = ["Standalone", "combine_results", "leave_out_unfit", "started_from"]

Results = list[tuple[ClientProxy, FitRes]]


@dataclass(slots=True)
class Standalone:
    """What a strategy goes on from where a program calls `aggregate_fit` by itself: the version and slots made last, from
    `start`.
    """

    start: Parameters | None = None
    slots: dict[str, Params] = field(default_factory=dict)
    made: Params | None = None

    @property
    def version(self) -> Params | None:
        """In memory from its first use on: in a run nobody asks for it."""
        if self.made is None and self.start is not None:
            self.made = Params.of(self.start.arrays())
        return self.made

    def place(self, task: int, cohort: int, otherwise: tuple[Schema, Source]) -> Place:
        """Where a result stands that no run has placed; without any version it is as if `otherwise` was the base."""
        version = self.version
        base = otherwise if version is None else (version.schema, in_memory(version))
        return Place(task, cohort, *base, memory=self.memory())

    def memory(self) -> Memory:
        return Memory(self._read, lambda name, schema: _Slot(self.slots, name, schema))

    def _read(self, name: str) -> tuple[Schema, Source] | None:
        return (self.slots[name].schema, in_memory(self.slots[name])) if name in self.slots else None


class _Slot:
    """A slot on its way into a dict."""

    def __init__(self, slots: dict[str, Params], name: str, schema: Schema) -> None:
        self._slots, self._name, self._schema, self._data = slots, name, schema, bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def commit(self) -> None:
        self._slots[self._name] = Params(self._schema, np.frombuffer(bytes(self._data), np.uint8))

    def abort(self) -> None:
        self._data.clear()


def combine_results(
    parts: Parts,
    results: Results,
    *,
    number: int,
    weights: Sequence[float],
    standalone: Standalone,
    guide: NDArrays | None = None,
    shares: Sequence[float] | None = None,
    mixes: bool = False,
) -> Parameters:
    """What the parts make of the results of round `number`. `guide` are arrays that the server has trained itself.

    A result that started from an older version counts as what it has changed there. `shares` says how much of its change
    each result counts (Contribution has the formula); `mixes` takes the change to be the one from the newest version.

    Where these are the results that workers have added up, all of them and as they are, only the step is left to make.

    Raises `TooFewUpdates` where the aggregator needs more of them, and `StrategyError` where names or shapes differ.
    """
    if isinstance(parts.aggregator, Rule):
        parts.aggregator.check(len(results))
    inside = results[0][1].place
    total = _sum_of(results, weights, parts) if guide is None and shares is None and not mixes else None
    finish = _finish(parts, results, number)
    if total is not None and inside is not None:
        if total.rounds:
            remark_rounding()
        step = partial(
            total.blocks,
            inside.base,
            parts.optimizer,
            number=number,
            memory=inside.memory,
            averaged=_averaged(parts, inside.model),
            finish=finish,
        )
        return Parameters.lazy(total.schema(), step)
    readers = [res.parameters.reader() for _, res in results]
    # Programs that call aggregate_fit by themselves have no places: then the order is the list's.
    places = [res.place or standalone.place(i, len(results), readers[0]) for i, (_, res) in enumerate(results)]
    place = places[0]
    for (client, _), (schema, _) in zip(results, readers, strict=True):
        _same_shapes(f"client {client.cid} returned", schema, place.model)
    if inside is not None and is_rounded((schema for schema, _ in readers), place.model):
        remark_rounding()
    contributions = [
        Contribution(at.task, *reader, weight, share, None if mixes else _origin(at))
        for at, reader, weight, share in zip(places, readers, weights, shares or [1.0] * len(readers), strict=True)
    ]
    trained = [schema for (schema, _), (_, res) in zip(readers, results, strict=True) if res.num_examples > 0]
    averaged = _averaged(parts, place.model)
    schema = stepped_schema(place.model, trained or [schema for schema, _ in readers])
    made = Parameters.lazy(
        schema,
        lambda: combine(
            schema,
            (place.model, place.base),
            contributions,
            aggregator=parts.aggregator,
            optimizer=parts.optimizer,
            finish=finish,
            chunk=chunk_size(place.cohort),
            number=number,
            memory=place.memory,
            averaged=averaged,
            guide=None if guide is None else _guide(guide, place, len(contributions)),
            rng=lambda: frozen_stream(place.seed, "mix", number),
            spread=place.spread,
        ),
    )
    if results[0][1].place is None and _goes_on(parts):
        standalone.made = Params.of(made.arrays())
    return made


def _finish(parts: Parts, results: Results, number: int) -> Finish | None:
    """What the transforms do to the round's mean difference; nothing where a program calls `aggregate_fit` by itself."""
    place = results[0][1].place
    if place is None:
        return None
    totals = Totals(number, len(results), sum(res.num_examples for _, res in results), place.secret)
    return chain(parts.transform).finish(totals, place.facts)


def leave_out_unfit(results: Results, failures: list[FailedResult]) -> tuple[Results, list[FailedResult]]:
    """The results without those of which it is known that they cannot be combined, and the failures with them."""
    unfit = [(client.cid, res.parameters.unfit) for client, res in results if res.parameters.unfit]
    if not unfit:
        return results, failures
    (cid, why), more = unfit[0], len(unfit) - 1
    others = f" So are those of {more} others." if more else ""
    remark(
        Remark(
            (),
            f"the update of client {cid} is left out: {why}{others} Where the strategy's class says receives = "
            '"updates", its client is told',
        )
    )
    fit = [(client, res) for client, res in results if not res.parameters.unfit]
    return fit, [*failures, *(ClientFailed(f"client {cid}: {why}") for cid, why in unfit)]


def _sum_of(results: Results, weights: Sequence[float], parts: Parts) -> PartialSum | None:
    """The sum that workers have made of exactly these results; None where there is none, or the parts want another one."""
    first = results[0][1].parameters.in_sum
    if first is None or (results[0][1].parameters.is_alone and first.total.aggregator != parts.aggregator):
        return None
    inside = []
    for (_, res), weight in zip(results, weights, strict=True):
        found = res.parameters.in_sum
        if found is None or found.total is not first.total:
            return None
        inside.append((found.task, weight))
    return first.total if inside == list(first.weights.items()) else None


def started_from(results: Results, standalone: Standalone) -> NDArrays | None:
    """The arrays of the version that the clients started from, in memory; None where nobody knows."""
    place = results[0][1].place
    if place is None:
        return None if standalone.version is None else [array.copy() for array in standalone.version.arrays()]
    params = Params.empty(place.model)
    place.base(0, params.buffer.data)
    return params.arrays()


def _origin(place: Place) -> Source | None:
    """Reads the version that a result started from, in the base's schema; None where it is the base."""
    if place.origin is None:
        return None
    schema, source = place.origin
    if schema == place.model:
        return source
    old = Params.empty(schema)  # integers have become floats since: a matter of one round in a run
    source(0, old.buffer.data)
    params = Params.empty(place.model)
    for new, before in zip(params.arrays(), old.arrays(), strict=True):
        new[...] = before
    return in_memory(params)


def _goes_on(parts: Parts) -> bool:
    """Whether the next round needs this round's version: most optimizers do, and rules that plan."""
    return not parts.optimizer.replaces or (isinstance(parts.aggregator, Rule) and parts.aggregator.plan is not None)


def _averaged(parts: Parts, model: Schema) -> frozenset[int]:
    """The positions that the step leaves alone; nothing to look for where it takes every combined update as it is."""
    return frozenset() if parts.optimizer.replaces else statistics_of(model, parts.averaged)


def _guide(arrays: NDArrays, place: Place, number: int) -> Contribution:
    try:
        params = Params.of(arrays)
    except WireError as error:
        raise StrategyError(f"root_fit() returned arrays that cannot travel: {error}") from None
    _same_shapes("the server's own update has", params.schema, place.model)
    for position, array in enumerate(params.arrays()):
        if not all_finite(array.reshape(-1)):
            value = float(array[~np.isfinite(array)][0])
            raise StrategyError(f"root_fit() returned {value} in array {position}; return an update of finite numbers")
    return Contribution(number, params.schema, in_memory(params), 0)


def _same_shapes(who: str, schema: Schema, model: Schema) -> None:
    got, want = ([spec.shape for spec in s.specs] for s in (schema, model))
    if got != want:
        raise StrategyError(
            f"{who} arrays of shapes {got[:8]}, the model has {want[:8]}; "
            "drop such results before you call aggregate_fit"
        )
