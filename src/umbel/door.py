"""What the server admits. The schema is the server's; whatever does not fit it is `Rejected`, with the reason.

Knows schemas, numbers and blocks of bytes; knows no files, sockets or rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from umbel.dialogue import Scalar, scalars
from umbel.errors import Rejected, WireError
from umbel.fold import Distance, differs
from umbel.params import NDArray
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE, Room
from umbel.rounds.messages import Kind, Reply
from umbel.transforms import Applied
from umbel.update import Layout
from umbel.wire import LARGEST, Schema, Source, TensorSpec, dtype_of, largest_of, short

__all__ = ["Door", "ValueCheck"]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Door(Struct, frozen=True):
    """What a reply to one task must be.

    `schema` None admits any names and shapes, and any values. Where the door does not `refuse` what is not like the schema,
    it admits that, too, and the reply says why it is `unfit`. `max_bytes` bounds the data of one reply, and `room` is how
    much of its metrics is taken. `max_norm` bounds how far an update may be from what its client was given; None does not
    work that out, and infinity works it out without a bound. `transforms` are what the task names for its update, `beside`
    has the parts that it has beside the schema's, and `wire` is the layout of all that; None where there is neither.
    """

    kind: Kind
    schema: Schema | None
    max_examples: int
    max_bytes: int
    room: Room = Room(MAX_METRICS, MAX_METRICS_SIZE)
    max_norm: float | None = None
    transforms: tuple[Applied, ...] = ()
    beside: dict[str, Schema] = {}
    wire: Layout | None = None
    refuses: bool = True

    @property
    def layout(self) -> Layout:
        """The parts and tensors that an update has on its way to the server."""
        return Layout.of(self.schema) if self.wire is None else self.wire

    @property
    def travels(self) -> Schema | None:
        """The schema of the content that carries an update; None where any may."""
        return self.schema if self.wire is None else self.wire.schema

    def admit(self, reply: Reply, schema: Schema) -> Reply:
        """Checks everything but the values. Returns the reply as it is taken, and raises `Rejected`."""
        if not 0 <= reply.num_examples <= self.max_examples:
            raise Rejected(
                f"{self.kind}() returned num_examples={reply.num_examples}; it must be from 0 to {self.max_examples:,} "
                "(the server's max_examples)"
            )
        if reply.metrics:
            _admit_metrics(self.kind, reply.metrics)
        if self.kind in (Kind.FIT, Kind.PARAMETERS):
            unlike = self._admit_schema(schema)
            return replace(reply, unfit=unlike) if unlike else reply
        if len(schema):
            raise Rejected(f"{self.kind}() does not take parameters, got {len(schema)} arrays")
        return reply

    def metrics(self, given: Mapping[str, object]) -> dict[str, Scalar]:
        """As many of a reply's metrics as there is room for. Raises `Rejected` where one cannot travel at all.

        A number that is not finite travels: it is the strategy's to leave out.
        """
        return self.room.take(_admit_metrics(self.kind, given))

    def value_check(self, schema: Schema, given: tuple[Schema, Source] | None = None) -> ValueCheck | None:
        """The check for the values of a reply with this schema; None where values are the strategy's own affair.

        `given` reads what the client was given. An update of other shapes than that has no norm.
        """
        model = schema if self.kind is Kind.PARAMETERS else self.travels
        if model is not None and not self.refuses and self._unlike(schema):
            model = None
        measured = self.max_norm is not None and given is not None and _shapes(schema) == _shapes(given[0])
        if model is None and not measured:
            return None
        return ValueCheck(schema, model, given if measured else None, self.max_norm, refuses=self.refuses)

    def _admit_schema(self, schema: Schema) -> str:
        """Why the schema is not like the model, where that is no reason to refuse it."""
        if schema is self.travels and schema.nbytes <= self.max_bytes and len(schema):  # nearly always
            return ""
        method = f"{self.kind}()"
        if schema.nbytes > self.max_bytes:
            fits = self.schema is not None and self.refuses
            why = "" if fits else " (the server's max_bytes=, or half of what is free on its disk)"
            raise Rejected(
                f"{method} returned {schema.nbytes:,} bytes of parameters; the limit is {self.max_bytes:,}{why}"
            )
        if self.kind is Kind.PARAMETERS and not len(schema):
            raise Rejected(
                "get_parameters() returned no arrays; implement it, or give the strategy initial_parameters="
            )
        unlike = self._unlike(schema)
        if unlike and self.refuses:
            raise Rejected(unlike)
        return unlike

    def _unlike(self, schema: Schema) -> str:
        """What is not as the layout has it, in a sentence; "" where all is."""
        try:
            self.layout.admit(f"{self.kind}()", schema)
        except Rejected as error:
            return str(error)
        return ""


def _admit_metrics(kind: Kind, given: Mapping[str, object]) -> dict[str, Scalar]:
    try:
        return scalars(given)
    except WireError as error:
        raise Rejected(f"{kind}() returned metrics that cannot travel: {error}") from None


class ValueCheck:
    """Checks values block by block, as they arrive: finite, within the dtype of `model` (None admits any), and together not
    further than `limit` from `given`, where that is there. Values that are not are noted where the check does not `refuse`.
    """

    def __init__(
        self,
        schema: Schema,
        model: Schema | None,
        given: tuple[Schema, Source] | None = None,
        limit: float | None = None,
        *,
        refuses: bool = True,
    ) -> None:
        self._tensors = [
            (i, schema.specs[i], *schema.places[i][:3], None if model is None else _bounds(schema.specs[i], model.specs[i]))
            for i in schema.layout
        ]
        self._schema = schema
        self._given = given
        self._limit = limit
        self._refuses = refuses
        self._unfit = ""
        self._distance = None if given is None else Distance()
        self._next = 0  # first tensor that is not yet checked to its end

    def feed(self, offset: int, data: memoryview) -> None:
        """Checks the data bytes from `offset` on; offsets ascend and are multiples of 8. Raises `Rejected`."""
        end = offset + len(data)
        while self._next < len(self._tensors):
            position, spec, begin, finish, dtype, bounds = self._tensors[self._next]
            low, high = max(begin, offset), min(finish, end)
            if low < high and (bounds is not None or self._distance is not None):
                block = np.frombuffer(data[low - offset : high - offset], dtype)
                if bounds is not None and not self._unfit:
                    self._look(spec, bounds, block)
                self._measure(position, (low - begin) // block.dtype.itemsize, block)
            if finish > end:
                return
            self._next += 1

    def note(self, reply: Reply) -> Reply:
        """The reply with what the check has found; asked once, at the end. Raises `Rejected` as `norm` does."""
        norm = self.norm()
        if self._unfit:
            return replace(reply, norm=norm, unfit=self._unfit)
        return reply if norm is UNSET else replace(reply, norm=norm)

    def norm(self) -> float | UnsetType:
        """How far the whole update is from what its client was given, where that is worked out; asked once, at the end.

        Raises `Rejected` where that is too far.
        """
        if self._distance is None:
            return UNSET
        norm = self._distance.norm()
        if self._limit is not None and not norm <= self._limit:
            raise Rejected(
                f"fit() returned an update whose norm is {norm:.6g}; the limit is {self._limit:.6g} (the server's "
                "max_update_norm). Check the data and the learning rate."
            )
        return norm

    def _look(self, spec: TensorSpec, bounds: tuple[float, float], block: NDArray) -> None:
        try:
            _check_block(spec, bounds, block)
        except Rejected as error:
            if self._refuses:
                raise
            self._unfit = str(error)

    def _measure(self, position: int, start: int, block: NDArray) -> None:
        if self._distance is None or self._given is None or not differs(self._schema, self._given[0], position):
            return
        schema, source = self._given
        base = np.empty(block.size, dtype_of(schema.specs[position].dtype))
        source(schema.offsets[position] + start * base.dtype.itemsize, base.view(np.uint8).data)
        self._distance.add(block, base)


def _shapes(schema: Schema) -> list[tuple[int, ...]]:
    return [spec.shape for spec in schema.specs]


@lru_cache(maxsize=4096)
def _bounds(spec: TensorSpec, model: TensorSpec) -> tuple[float, float] | None:
    """The least and the greatest value that may travel; None where every bit pattern is fine."""
    if "BOOL" in (spec.dtype, model.dtype) and not spec.is_float:
        return None
    dtype = dtype_of(model.dtype)
    if not model.is_float:
        if spec.is_float:  # rounded, or the tensor becomes float64
            return -LARGEST, LARGEST
        limits = np.iinfo(dtype)
        return None if spec.dtype == model.dtype else (int(limits.min), int(limits.max))
    if spec.is_float and dtype.itemsize < min(dtype_of(spec.dtype).itemsize, 4):  # the tensor becomes float32
        return -_FLOAT32_MAX, _FLOAT32_MAX
    largest = largest_of(dtype)
    return -largest, largest


def _check_block(spec: TensorSpec, bounds: tuple[float, float], block: NDArray) -> None:
    if block.dtype.kind == "V" or block.dtype == np.float16:
        block = block.astype(np.float32)
    elif block.dtype == np.float32 and bounds[1] >= _FLOAT32_MAX:
        # One pass instead of two: no NaN or infinity hides in a finite sum. Where the sum overflows, look closer.
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(np.add.reduce(block)):
                return
    # max and min carry NaN, use SIMD and allocate nothing, which isfinite().all() does not
    largest, smallest = block.max().item(), block.min().item()
    for value in (largest, smallest):
        if isinstance(value, float) and not math.isfinite(value):
            raise Rejected(
                f"array {short(spec.name)} contains {value}; only finite values travel. "
                "Check the data and the learning rate."
            )
        if not bounds[0] <= value <= bounds[1]:
            raise Rejected(f"array {short(spec.name)} contains {value:g}; the model's dtype there ends at {bounds[1]:g}")
