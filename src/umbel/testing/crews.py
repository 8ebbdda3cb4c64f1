"""What every crew of simulated clients promises, as a check that anyone can run on one of their own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np

from umbel.aggregators import mean
from umbel.context import Context
from umbel.dialogue import Config, Metrics
from umbel.door import Door
from umbel.fold import PartialSum
from umbel.optimizers import sgd
from umbel.params import NDArrays, Params, gather, schema_of
from umbel.rounds.messages import Failure, Kind, Reply
from umbel.runtime.contents import Contents, as_parameters, write_content
from umbel.runtime.seeding import keep_generators
from umbel.runtime.transports.simulated.pieces import Asked, Crew, Done, Lost, Piece, Work
from umbel.runtime.transports.simulated.workbench import Workbench
from umbel.testing.demand import demand
from umbel.training import NumPyClient
from umbel.update import Layout
from umbel.wire import Schema

__all__ = ["check_crew"]

_PATIENCE = 60.0  # seconds for an outcome
_MODEL: NDArrays = [np.linspace(-1, 1, 700, dtype=np.float32), np.arange(5)]
_SCHEMA = schema_of(_MODEL)
_BESIDE: NDArrays = [np.full((2, 3), 0.25, np.float32)]
_GIVEN = {"model": Params.of(_MODEL), "control": Params.of(_BESIDE)}

Make = Callable[[Work], AbstractContextManager[tuple[Crew, Contents]]]


class _Member(NumPyClient):
    """Draws what it adds, counts in its state how often it was at work, and does what a config asks for else."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        if config.get("raise"):
            raise RuntimeError("as it was asked to")
        if config.get("die"):
            os._exit(3)
        state = self._context.state
        state["times"] = state.get("times", 0) + 1  # type: ignore[operator]  # an int: nobody else writes here
        floats, integers = parameters
        floats += np.random.standard_normal(floats.shape).astype(np.float32)
        for part, arrays in self._context.parts.items():
            self._context.send(part, [array + np.random.standard_normal(array.shape) for array in arrays])
        return [floats, integers + 1], 1 + int(self._context.node_id), {"m": float(np.random.random())}


def check_crew(make: Make, *, dies: bool = False) -> None:
    """Checks what a simulation relies on. Raises `AssertionError`.

    `make(work)` is a context manager that yields a crew for this work, with the contents that it works with, and closes it.

    Each piece has one outcome: what a `Workbench` in this process makes of it, bit for bit, with a sum for each chunk, or
    with each update as a content of the name that was asked for, and with what goes to clients, and comes back, beside the
    model. A client that raises fails alone. A piece that is dropped
    has no outcome, and the next one has. `wait` gives up in time, and ends when another thread calls `wake`. With `dies`, a
    client ends the process that it is in: its piece is `Lost`, where it is done with care at the guilty task, and the crew
    goes on. Closing it twice is closing it.
    """
    work = Work(_Member, 3, 8, mean(), beside={"control": mean()})
    with make(work) as (crew, contents):
        for name, params in _GIVEN.items():
            write_content(contents, name, params.schema, gather(params.schema, params.arrays(), 0, params.schema.nbytes))
        check = _Check(crew, contents, work)
        check.sums()
        check.beside()
        check.updates()
        check.order()
        check.drops()
        check.waits()
        if dies:
            check.deaths()
        crew.close()  # and `make` does


class _Check:
    def __init__(self, crew: Crew, contents: Contents, work: Work) -> None:
        self._crew, self._contents, self._work = crew, contents, work
        self._number = 0

    def sums(self) -> None:
        demand(self._crew.slots >= 1, f"slots is {self._crew.slots}; it is how many pieces can be done at once")
        piece = self._piece(range(6), folds=True, configs={4: {"raise": True}})
        demand(self._crew.free(), "a crew that has nothing to do is not free")
        self._crew.start(piece)
        done = self._done()
        self._compare(piece, done)
        demand(sorted(done.totals) == [0, 1, 2], f"there are sums of the chunks {sorted(done.totals)}; they are 0, 1 and 2")
        demand(isinstance(done.answers[4], Failure), "a client that raised has not failed")

    def beside(self) -> None:
        for folds in (True, False):
            piece = self._piece(range(4), folds=folds, beside=("control",))
            self._crew.start(piece)
            done = self._done()
            self._compare(piece, done)
            self._crew.start(following := self._piece([0], folds=folds))
            self._compare(following, self._done())

    def updates(self) -> None:
        piece = self._piece(range(2), folds=False)
        self._crew.start(piece)
        done = self._done()
        kept = self._compare(piece, done)
        for asked in piece.tasks:
            assert asked.into is not None
            content = self._contents.open(asked.into)
            demand(_bytes(as_parameters(content).arrays()) == kept[asked.into], "a content is not what the client returned")
            content.close()

    def order(self) -> None:
        pieces = {piece.number: piece for piece in (self._piece([i], folds=True) for i in range(5))}
        for piece in pieces.values():
            self._crew.start(piece)
        for _ in range(len(pieces)):
            done = self._done()
            demand(done.number in pieces, f"piece {done.number} has a second outcome, or nobody has asked for it")
            self._compare(pieces.pop(done.number), done)

    def drops(self) -> None:
        dropped, wanted = self._piece([0], folds=False), self._piece([1], folds=False)
        self._crew.start(dropped)
        self._crew.drop(dropped.number)
        self._crew.start(wanted)
        done = self._done()
        demand(done.number == wanted.number, "a piece that was dropped has an outcome")

    def waits(self) -> None:
        demand(self._crew.wait(0.01) is None, "there is an outcome of nothing")
        waker = threading.Timer(0.05, self._crew.wake)
        waker.start()
        began = time.monotonic()
        demand(self._crew.wait(_PATIENCE) is None, "there is an outcome of nothing")
        waker.join()
        demand(time.monotonic() - began < _PATIENCE / 2, "wake() from another thread does not end wait()")

    def deaths(self) -> None:
        for careful in (False, True):
            piece = self._piece(range(3), folds=True, configs={1: {"die": True}}, careful=careful)
            self._crew.start(piece)
            lost = self._wait()
            if not isinstance(lost, Lost) or lost.number != piece.number:
                raise AssertionError(f"a piece whose worker has died is {lost!r}; it is Lost")
            demand(lost.at in (1, None), f"a worker that died at task 1 is said to have died at {lost.at}")
            demand(lost.at == 1 or not careful, "nobody knows at which task of a piece that is done with care a worker died")
        piece = self._piece(range(2), folds=True)
        self._crew.start(piece)
        self._compare(piece, self._done())

    def _piece(
        self,
        clients: Sequence[int],
        *,
        folds: bool,
        configs: Mapping[int, dict[str, object]] | None = None,
        careful: bool = False,
        beside: Sequence[str] = (),
    ) -> Piece:
        self._number += 1
        names = [None if folds else f"update-{self._number}-{i}" for i in clients]
        configs = configs or {}
        asked = tuple(Asked(i, str(i), i, 1, configs.get(i, {}), name) for i, name in zip(clients, names, strict=True))
        parts = {part: _GIVEN[part].schema for part in beside}
        door = Door(Kind.FIT, _SCHEMA, 10**9, 2**40, beside=parts, wire=Layout.of(_SCHEMA, parts))
        partial, given = "sum" if folds else None, {part: part for part in ("model", *beside)}
        return Piece(self._number, Kind.FIT, asked, given, door, partial, 2, careful=careful)

    def _wait(self) -> Done | Lost:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            outcome = self._crew.wait(until - time.monotonic())
            if outcome is not None:
                return outcome
        raise AssertionError(f"no outcome after {_PATIENCE:.0f} s")

    def _done(self) -> Done:
        outcome = self._wait()
        if isinstance(outcome, Lost):
            raise AssertionError(f"a piece was lost: {outcome.why}")
        return outcome

    def _compare(self, piece: Piece, done: Done) -> dict[str, bytes]:
        """Does a piece here as well. Returns the updates that travel by themselves."""
        kept: dict[str, bytes] = {}

        def keep(name: str, _: Schema, arrays: NDArrays) -> None:
            kept[name] = _bytes(arrays)

        with keep_generators():
            here = Workbench(self._work, keep).do(piece, {part: _GIVEN[name] for part, name in piece.given.items()})
        demand(done.number == piece.number, f"the outcome is of piece {done.number}, {piece.number} was asked for")
        demand(_plain(done.answers) == _plain(here.answers), "answers are others than here")
        demand(done.states == here.states, "clients have kept something else than here")
        demand(done.totals.keys() == here.totals.keys(), "updates are folded where nobody asked for it, or are not")
        for chunk, total in done.totals.items():
            there, own = (_bits(each) for each in (total, here.totals[chunk]))
            demand(there == own, f"the sum of chunk {chunk} has other bits than here")
        return kept


def _bits(total: PartialSum) -> list[bytes]:
    """What comes of a sum, and of what was added up beside it."""
    return [b"".join(map(bytes, each.blocks(None, sgd()))) for each in (total, *total.beside.values())]


def _plain(answers: Mapping[int, Reply | Failure]) -> Mapping[int, object]:
    """What is compared of answers: a failure's text has lines of files, which may lie elsewhere."""
    return {index: said if isinstance(said, Reply) else said.kind for index, said in answers.items()}


def _bytes(arrays: NDArrays) -> bytes:
    return b"".join(array.tobytes() for array in arrays)
