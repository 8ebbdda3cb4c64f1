"""Does pieces: makes each client, seeds its draws, runs its task, checks the answer, folds or keeps the update.

The same code in every worker, wherever it runs; knows no processes and no transport.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping

import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from umbel.accidents import is_an_end
from umbel.context import Context
from umbel.dialogue import Scalar
from umbel.door import Door
from umbel.errors import Rejected, WireError
from umbel.fold import Adding, Distance, PartialSum, in_memory
from umbel.params import NamedArrays, NDArray, NDArrays, Params, gather
from umbel.rounds.messages import Failure, FailureKind, Kind, Reply
from umbel.runtime.seeding import seed_generators
from umbel.runtime.transports.simulated.pieces import Asked, Done, Keep, Piece, Work
from umbel.runtime.transports.simulated.states import pack, unpack
from umbel.secret import Simulated
from umbel.training import Answer, Encoding, accident, client_maker, run_task
from umbel.transforms import decoded, reader_in, register, source_of, whose
from umbel.update import MODEL, Layout
from umbel.wire import Schema

__all__ = ["Workbench"]

_NOTHING = Params.of([])
_FLOAT32 = np.dtype(np.float32)
BLOCK = 1 << 19  # bytes of an update that are decoded at a time


class Workbench:
    """One worker's. `keep` puts an update that travels by itself where it is wanted."""

    def __init__(self, work: Work, keep: Keep) -> None:
        self._work = work
        self._keep = keep
        for maker in work.makers:
            register(maker)
        self._make = client_maker(work.client_fn)
        self._adding = None if work.aggregator is None else Adding(work.aggregator, work.beside)
        self._given: tuple[Params | None, list[NDArray] | None] = None, None

    def try_client(self, client: str) -> None:
        """Makes a client for nothing, to find out whether it can be made. Raises what the user's code raises."""
        asked = Asked(0, client, 0, 0, {})
        seed_generators(self._work.seed, "client", client, 0)
        self._make(self._context(asked, {}, Simulated(self._work.seed, "client", client, 0)))

    def do(self, piece: Piece, given: Mapping[str, Params], at: Callable[[int], None] = lambda _: None) -> Done:
        """Does the tasks one after another. `given` is what `piece.given` names, read-only; `at` is told each index."""
        done = self.begin(piece)
        for asked in piece.tasks:
            at(asked.index)
            self.do_task(piece, asked, given, done)
        return done

    def begin(self, piece: Piece) -> Done:
        """The outcome of a piece of which nothing is done yet."""
        done = Done(piece.number, {})
        if piece.partial is not None and piece.door.schema is not None and self._adding is not None:
            chunks = sorted({asked.index // piece.chunk for asked in piece.tasks})
            done.totals = {chunk: self._adding.begin(piece.door.schema, piece.door.beside) for chunk in chunks}
        return done

    def do_task(self, piece: Piece, asked: Asked, given: Mapping[str, Params], done: Done) -> None:
        """Does the next task of the piece, and adds its answer to `done`."""
        done.answers[asked.index] = self._do(piece, asked, given, done)

    def _do(self, piece: Piece, asked: Asked, contents: Mapping[str, Params], done: Done) -> Reply | Failure:
        model, beside = contents.get(MODEL), piece.door.beside
        seed_generators(self._work.seed, "client", asked.client, asked.round)
        state, memory = unpack(asked.state)
        secret = Simulated(self._work.seed, "client", asked.client, asked.round, piece.kind)
        context = self._context(asked, state, secret)
        given = _NOTHING if model is None else Params(model.schema, model.buffer.copy())
        views = given.arrays()
        encoding = None
        if (piece.door.transforms or beside) and model is not None:
            where = self._work.seed, asked.client, asked.round
            encoding = Encoding(piece.door.transforms, model, memory, *where, secret, beside)
            context.parts = {part: _own(contents[part]) for part in beside}
        answer = run_task(lambda: self._make(context), piece.kind, views.copy(), asked.config, encoding)
        done.noise = done.noise or secret.used
        if isinstance(answer, Failure):
            return answer
        try:
            memory = memory if encoding is None else answer.memory
            kept = pack(state, memory) if state or memory or asked.state else b""
            schema = _schema(answer, piece.door.travels)
            total = done.totals.get(asked.index // piece.chunk)
            metrics = piece.door.room.take(answer.metrics)
            reply = piece.door.admit(Reply(answer.num_examples, answer.loss, {**metrics}, asked.into), schema)
            if encoding is not None:
                reply = self._take_codes(piece, asked, answer, reply, schema, encoding, total)
            elif piece.kind in (Kind.FIT, Kind.PARAMETERS):
                in_place = schema is piece.door.schema and all(map(operator.is_, answer.arrays, views))
                data = given.buffer if in_place else None
                reply = self._take(piece, asked, answer, reply, schema, model, data, total)
        except (Rejected, WireError) as error:
            return Failure(FailureKind.REJECTED, str(error))
        except BaseException as error:
            if whose(error) is None or is_an_end(error, os.getpid()):
                raise
            return accident(piece.kind, error)  # a decode() that raises ends no worker
        if kept != asked.state:
            done.states[asked.index] = kept
        if len(metrics) < len(answer.metrics):
            done.surplus[asked.index] = len(answer.metrics) - len(metrics)
        return reply

    def _take(
        self,
        piece: Piece,
        asked: Asked,
        answer: Answer,
        reply: Reply,
        schema: Schema,
        model: Params | None,
        data: NDArray | None,
        total: PartialSum | None,
    ) -> Reply:
        """Checks the values of an update, folds it where it is fit for that, and keeps it where it is wanted by itself.

        Returns the reply with what has become of it, and with the norm of one that is folded: later it may be gone. `data`
        has the arrays in one piece, where they are in one: a client that trains in place saves their gathering.
        """
        norm: float | UnsetType = UNSET
        blocks, sound, alike = None, False, schema is piece.door.schema
        if total is not None and reply.unfit is UNSET:
            blocks = total.blocks_of(answer.arrays) if data is None else total.blocks_in(data)
            if asked.into is not None:  # what is kept can be measured later, where anybody asks
                sound = piece.door.max_norm is None and _surely_finite(blocks)
            elif model is not None and piece.door.max_norm is None and (base := self._base(piece, model, total)) is not None:
                norm, sound = _norm(blocks, base)
        if not (sound and alike):
            reply = _admit(piece.door, reply, schema, answer.arrays, model)
        if total is not None and blocks is not None and reply.unfit is UNSET:
            total.add(blocks, answer.num_examples, alike=alike)
            reply = replace(reply, partial=piece.partial, norm=norm if reply.norm is UNSET else reply.norm)
        if asked.into is not None:
            self._keep(asked.into, schema, answer.arrays)
        return reply

    def _take_codes(
        self,
        piece: Piece,
        asked: Asked,
        answer: Answer,
        reply: Reply,
        schema: Schema,
        encoding: Encoding,
        total: PartialSum | None,
    ) -> Reply:
        """The same for an update of several parts: what is folded is decoded as the server would."""
        reply = _admit(piece.door, reply, schema, answer.arrays, None)
        if asked.into is not None:
            self._keep(asked.into, schema, answer.arrays)
        if total is None or reply.unfit is not UNSET:
            return reply
        model, layout = encoding.base, piece.door.layout
        parts = layout.split(answer.arrays)
        beside = {part: parts[part] for part in encoding.beside}
        if not encoding.transforms:
            blocks = total.blocks_of(parts[MODEL])
            total.add(blocks, answer.num_examples, beside=beside)
            return replace(reply, partial=piece.partial)
        reader = decoded(
            encoding.transforms,
            reader_in(layout, answer.arrays),
            reader_in(Layout.of(model.schema), model.arrays()),
            encoding.beside,
        )
        update, source = Params.empty(model.schema), source_of(reader)
        for start in range(0, update.schema.nbytes, BLOCK):
            source(start, update.buffer[start : start + BLOCK].data)
        blocks = total.blocks_in(update.buffer)
        total.add(blocks, answer.num_examples, alike=True, beside=beside)
        base = self._base(piece, model, total) if asked.into is None else None
        return replace(reply, partial=piece.partial, norm=UNSET if base is None else _norm(blocks, base)[0])

    def _base(self, piece: Piece, model: Params, total: PartialSum) -> list[NDArray] | None:
        """What the clients of a piece are given, as blocks like those of their updates; cut once for all of them."""
        if self._given[0] is not model:
            self._given = model, total.blocks_in(model.buffer) if model.schema == piece.door.schema else None
        return self._given[1]

    def _context(self, asked: Asked, state: dict[str, object], secret: Simulated) -> Context:
        place: dict[str, Scalar] = {"partition-id": asked.position, "num-partitions": self._work.population}
        return Context(asked.client, place, {}, state, self._work.seed, asked.round, secret)


def _own(params: Params) -> NamedArrays:
    """The same arrays, in memory of their own."""
    return Params(params.schema, params.buffer.copy()).arrays()


def _schema(answer: Answer, wanted: Schema | None) -> Schema:
    """The schema of an answer; the wanted one itself where it is the same, which saves 10 µs a task."""
    if wanted is None or wanted.blobs or not isinstance(answer.arrays, NamedArrays) or answer.arrays.names != wanted.names:
        return answer.schema
    return wanted if [(array.dtype, array.shape) for array in answer.arrays] == wanted.forms else answer.schema


def _norm(blocks: list[NDArray], base: list[NDArray]) -> tuple[float, bool]:
    """How far an update is from what it was given; and whether all of it is surely finite, as float32 is where the norm is.

    In float32 where that is enough, 7 µs for 8,000 values; else 20 µs. (The check that can name an array takes 30.)
    """
    squares = 0.0
    for values, given in zip(blocks, base, strict=True):
        if values.dtype != _FLOAT32 or given.dtype != _FLOAT32:
            break
        with np.errstate(over="ignore"):
            difference = values - given
        squares += float(np.vdot(difference, difference))  # vdot never warns of an overflow, dot does
    else:
        if math.isfinite(squares):
            return math.sqrt(squares), True
    total = Distance()
    for values, given in zip(blocks, base, strict=True):
        if {values.dtype.kind, given.dtype.kind} & {"f", "V"}:
            total.add(values, given)
    return total.norm(), False


def _surely_finite(blocks: list[NDArray]) -> bool:
    """Whether all values are float32 and finite, and their squares too: 0.2 ms for a million, a third of their norm."""
    with np.errstate(over="ignore", invalid="ignore"):
        return all(values.dtype == _FLOAT32 and math.isfinite(np.vdot(values, values)) for values in blocks)


def _admit(door: Door, reply: Reply, schema: Schema, arrays: NDArrays, model: Params | None) -> Reply:
    """The reply with what is found in the values of its update. Raises `Rejected`, naming the array."""
    check = door.value_check(schema, None if model is None else (model.schema, in_memory(model)))
    if check is None:
        return reply
    begin = 0
    for view in gather(schema, arrays, 0, schema.nbytes):
        check.feed(begin, view)
        begin += len(view)
    return check.note(reply)
