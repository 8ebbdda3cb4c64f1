"""What every transform promises, as a check that anyone can run on one of their own."""

from __future__ import annotations

import copy

import numpy as np

from umbel.common import ndarrays_to_parameters
from umbel.dialogue import Config, Metrics
from umbel.errors import WireError
from umbel.params import NDArray, NDArrays, Params
from umbel.rng import frozen_stream
from umbel.runtime.transports.simulated.states import decode_state, encode_state
from umbel.secret import Simulated
from umbel.server.strategy import FedAvg
from umbel.testing.demand import demand
from umbel.testing.local import run_locally
from umbel.training import NumPyClient
from umbel.transforms import Chain, Reader, Site, Totals, Transform, chain, chain_of, reader_in
from umbel.update import MODEL, Update

__all__ = ["check_transform"]

_SHAPES = ((60, 50), (7,), (), (0, 3))
_CUTS = (1, 7, 1000)


def check_transform(transform: Transform, *, seed: int = 0) -> None:
    """Checks what the rest of Umbel relies on, with models of several kinds of numbers. Raises `AssertionError`.

    Its function is registered, and makes the same transform of the settings that a task carries. `encode` makes what
    `layout` says, changes neither what it is given nor the arrays of its memory, draws from `site.rng` alone, and what it
    remembers can be kept. `decode` gives the same finite values however they are cut, and raises for no values whatever.
    `finish` does not depend on where blocks are cut, and `advance` makes the same finite numbers of the same facts. Two runs
    with it end with the same bits, without a failure.

    >>> from umbel.transforms import clip, int8
    >>> check_transform(clip(1.0))
    >>> check_transform(int8())
    """
    links = chain(transform)
    _check_names(transform, links)
    for kind in ("float32", "float64", "float16"):
        draw = frozen_stream(seed, "check", kind)
        before: NDArrays = [np.asarray(draw.standard_normal(shape)).astype(kind) for shape in _SHAPES]
        before += [np.array([3, -4]), np.array([True, False])]
        after = [np.asarray(array + draw.standard_normal(array.shape) / 8).astype(kind) for array in before[: len(_SHAPES)]]
        _check_halves(links, before, [*after, np.array([5, 6]), np.array([False, False])], draw)
    _check_server(transform)
    _check_runs(transform)


def _check_names(transform: Transform, links: Chain) -> None:
    try:
        links.makers  # noqa: B018  # raises for one that nobody registered
        again = chain_of(links.applied(links.facts)).links[-1]
    except Exception as error:
        raise AssertionError(f"the other side cannot make {transform!r}: {error}") from None
    same = (again.name, dict(again.settings)) == (transform.name, dict(transform.settings))
    demand(same, f"the settings of {transform!r} make {again!r} on the other side")


def _check_halves(links: Chain, before: NDArrays, after: NDArrays, draw: np.random.RandomState) -> None:
    base, name = Params.of(before), links.links[-1].name
    base.buffer.flags.writeable = False
    memory: dict[str, object] = {}
    for number in (1, 2, 3):
        given, kept = [array.copy() for array in after], copy.deepcopy(memory)
        first, remembered = _encode(links, base, given, memory, number)
        demand(_same(given, after), f"encode() of {name} changed the arrays that it was given; copy them first")
        demand(_same_memory(memory, kept), f"encode() of {name} changed what it remembers in place; assign new arrays")
        second, _ = _encode(links, base, given, memory, number)
        demand(_same(first, second), f"encode() of {name} gave other bits the second time; draw from site.rng() alone")
        try:
            memory = decode_state(encode_state(remembered))
        except WireError as error:
            raise AssertionError(f"what {name} remembers cannot be kept: {error}") from None
    whole = _decode(links, base, first, "what encode() makes")
    demand(all(np.isfinite(array).all() for array in whole), f"decode() of {name} gave values that are not finite")
    _decode(links, base, [_lies(array, draw) for array in first], "values that a liar may send")


def _encode(
    links: Chain, base: Params, arrays: NDArrays, memory: dict[str, object], number: int
) -> tuple[NDArrays, dict[str, object]]:
    """What travels, and what is remembered then."""
    last, remembered = links.links[-1].name, dict(memory)
    update = Update({MODEL: arrays}, 10, {})

    def site(link: Transform) -> Site:
        memory = remembered if link.name == last else {}
        return Site(link.name, link.facts, memory, 7, "a", number, Simulated(7, "client", "a", number))

    try:
        travelling, layout = links.encode(update, base, site)
    except Exception as error:
        raise AssertionError(f"{last} cannot encode an update: {type(error).__name__}: {error}") from None
    return layout.joined(travelling), remembered


def _decode(links: Chain, base: Params, arrays: NDArrays, of: str) -> NDArrays:
    """What the server reads of what has travelled."""
    name = links.links[-1].name
    layouts = links.layouts(base.schema)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            given = reader_in(layouts[0], base.arrays())
            return _read_back(links.decode(reader_in(layouts[-1], arrays), given, links.facts), name)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"decode() of {name} raised {type(error).__name__} for {of}: {error}") from None


def _read_back(reader: Reader, name: str) -> NDArrays:
    """The update that a reader reads, however it is cut."""
    schema = reader.layout[MODEL]
    arrays = []
    for position, spec in enumerate(schema.specs):
        whole = reader.read(MODEL, position, 0, spec.size)
        for cut in _CUTS:
            starts = range(0, min(spec.size, 40 * cut), cut)
            parts = [reader.read(MODEL, position, start, min(cut, spec.size - start)) for start in starts]
            joined = np.concatenate([np.empty(0, whole.dtype), *parts])
            same = joined.tobytes() == whole[: joined.size].tobytes()
            demand(same, f"decode() of {name} gave other values where they were read {cut} at a time")
        arrays.append(whole)
    return arrays


def _check_server(transform: Transform) -> None:
    facts = dict(transform.facts)
    totals = Totals(1, 4, 40, Simulated(7, "server"))
    if transform.finish is not None:
        block = np.linspace(-1, 1, 1000)
        whole = np.asarray(transform.finish(block.copy(), 0, totals, facts))
        demand(whole.shape == block.shape, f"finish() of {transform.name} gave the shape {whole.shape} for (1000,)")
        for cut in _CUTS:
            parts = [
                np.asarray(transform.finish(block[start : start + cut].copy(), start, totals, facts))
                for start in range(0, block.size, cut)
            ]
            same = np.concatenate(parts).tobytes() == whole.tobytes()
            demand(same, f"finish() of {transform.name} depends on where blocks are cut; go by `start`")
    if transform.advance is not None:
        try:
            once, twice = (chain(transform).advance({transform.name: facts}, totals) for _ in range(2))
        except ValueError as error:
            raise AssertionError(str(error)) from None
        demand(once == twice, f"advance() of {transform.name} made {once} and then {twice} of the same facts")
        demand(dict(transform.facts) == facts, f"advance() of {transform.name} changed the facts that it was given")


class _Moving(NumPyClient):
    """Moves by numbers of its own."""

    def __init__(self, name: int) -> None:
        self.step = np.linspace(-1, 1, 500).astype(np.float32) * name

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        return [parameters[0] + self.step, parameters[1] + 1], 1, {}


def _check_runs(transform: Transform) -> None:
    def run() -> list[bytes]:
        start = ndarrays_to_parameters([np.zeros(500, np.float32), np.array([1])])
        strategy = FedAvg(fraction_evaluate=0.0, initial_parameters=start, transform=transform)
        done = run_locally(strategy, {str(i): _Moving(i) for i in range(3)}, num_rounds=3)
        failed = [failure.text for failure in done.history.failures]
        demand(not failed, f"a run with {transform!r} has failures: {failed[:1]}")
        return [array.tobytes() for array in done.arrays]

    demand(run() == run(), f"two runs with {transform!r} ended with other bits")


def _lies(array: NDArray, draw: np.random.RandomState) -> NDArray:
    """Values of this dtype that nobody would encode; they are finite, as the door has it."""
    if array.dtype == np.bool_ or not array.size:
        return array
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        return np.asarray(draw.choice(np.array([info.min, -1 % info.max, 0, info.max]), array.shape)).astype(array.dtype)
    largest = min(float(np.finfo(array.dtype).max), 1e290) if array.dtype.kind == "f" else 1e30
    return np.asarray(draw.choice([-largest, 0.0, 1.0, largest], array.shape)).astype(array.dtype)


def _same(ones: NDArrays, others: NDArrays) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in pairs)


def _same_memory(one: dict[str, object], other: dict[str, object]) -> bool:
    return encode_state(one) == encode_state(other)
