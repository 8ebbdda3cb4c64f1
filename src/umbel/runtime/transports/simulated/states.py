"""What clients keep between rounds, as bytes. Arrays, numbers, text, bytes, and lists and dicts of them; never code.

Only the state of clients that have one is held, and beyond a size it lies in files.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Set
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import msgspec
import numpy as np

from umbel.errors import WireError
from umbel.params import NDArray
from umbel.wire import dtype_of, tag_of

__all__ = ["States", "decode_state", "encode_state", "pack", "unpack"]

IN_MEMORY = 64 * 2**20  # bytes of states that are held in memory; the rest is in a file
_ARRAY = 1
_MEMORY = "\0umbel"  # the key of what is not the client's own: no name that anyone gives


def encode_state(state: Mapping[str, object], what: str = "context.state") -> bytes:
    """The state as bytes, b"" for an empty one. Raises `WireError` naming `what` it is, and what in it cannot be kept.

    >>> decode_state(encode_state({"steps": 3, "momentum": np.ones(2, "float32")}))["momentum"].tolist()
    [1.0, 1.0]
    """
    if not state:
        return b""
    try:
        for name, value in state.items():
            if not isinstance(name, str):
                raise TypeError(f"the key {name!r} is a {type(name).__name__}, not text")
            _check(value, f"[{name!r}]")
        return _encoder.encode(state)
    except Exception as error:  # a list or a dict of the user's own class raises what it likes
        raise WireError(
            f"{what} holds what cannot be kept: {error}; it takes arrays, numbers, text, bytes, "
            "and lists and dicts of them"
        ) from None


def decode_state(data: bytes) -> dict[str, object]:
    """What `encode_state` wrote; arrays are writable copies, tuples are lists."""
    return _decoder.decode(data) if data else {}


def pack(state: dict[str, object], memory: Mapping[str, object]) -> bytes:
    """All that a client keeps: its own state, and what transforms remember beside it. Raises as `encode_state` does."""
    try:
        return encode_state({**state, _MEMORY: memory} if memory else state)
    except WireError:
        for name, kept in memory.items():
            if isinstance(kept, Mapping):
                encode_state(kept, f"the memory of {name}")
        raise


def unpack(data: bytes) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """The state and the memory that `pack` wrote.

    >>> unpack(pack({"steps": 3}, {"top_k": {"left": 1.0}}))
    ({'steps': 3}, {'top_k': {'left': 1.0}})
    """
    state = decode_state(data)
    memory = state.pop(_MEMORY, None)
    return state, memory if isinstance(memory, dict) else {}


def _check(value: object, where: str) -> None:
    """Raises `TypeError` for what would come back as something else, or not at all."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | np.generic() | np.ndarray():
            pass
        case list() | tuple():
            for i, item in enumerate(value):
                _check(item, f"{where}[{i}]")
        case dict():
            for name, item in value.items():
                _check(item, f"{where}[{name!r}]")
        case _:
            raise TypeError(f"{where} is a {type(value).__name__}")


def _encode(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        array: NDArray = np.asarray(value, order="C")
        head = msgspec.msgpack.encode((tag_of(array.dtype), array.shape))
        return msgspec.msgpack.Ext(_ARRAY, len(head).to_bytes(4, "little") + head + array.tobytes())
    raise TypeError(f"a {type(value).__name__}")


def _decode(code: int, data: memoryview) -> object:
    if code != _ARRAY:
        raise WireError(f"a client's state has a part of unknown kind {code}")
    begin = 4 + int.from_bytes(data[:4], "little")
    tag, shape = msgspec.msgpack.decode(data[4:begin], type=tuple[str, tuple[int, ...]])
    return np.frombuffer(bytearray(data[begin:]), dtype_of(tag)).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode)
_decoder = msgspec.msgpack.Decoder(dict[str, object], ext_hook=_decode)


class _Place(NamedTuple):
    """Where a state lies in the file; a shorter one overwrites it."""

    offset: int
    size: int
    room: int


class States:
    """Every client's state, by name. `stored(client)` finds what an earlier process of the run has kept for the `names`.

    Nobody else is looked for: a query takes 0.5 ms, a task can take 0.1.

    >>> states = States({"a": b"old"}.__getitem__, {"a"})
    >>> states.put("b", b"new")
    >>> states.get("a"), states.get("b"), states.get("c"), states.take_changed()
    (b'old', b'new', b'', ['b'])
    """

    def __init__(
        self,
        stored: Callable[[str], bytes] = lambda _: b"",
        names: Set[str] = frozenset(),
        *,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self._stored = stored
        self._names = names
        self._in_memory = in_memory
        self._held: dict[str, bytes] = {}
        self._size = 0
        self._places: dict[str, _Place] = {}
        self._file: IO[bytes] | None = None
        self._changed: dict[str, None] = {}

    def get(self, client: str) -> bytes:
        if client in self._held:
            return self._held[client]
        if client in self._places and self._file is not None:
            place = self._places[client]
            self._file.seek(place.offset)
            return self._file.read(place.size)
        return self._stored(client) if client in self._names else b""

    def put(self, client: str, state: bytes) -> None:
        self._changed[client] = None
        self._size += len(state) - len(self._held.pop(client, b""))
        if self._size <= self._in_memory:
            self._held[client] = state
        else:
            self._size -= len(state)
            self._write(client, state)

    def _write(self, client: str, state: bytes) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix="umbel-states-")  # noqa: SIM115  # closed with the states
        place = self._places.get(client)
        if place is None or place.room < len(state):
            place = _Place(self._file.seek(0, io.SEEK_END), 0, len(state))
        self._file.seek(place.offset)
        self._file.write(state)
        self._places[client] = place._replace(size=len(state))

    def take_changed(self) -> list[str]:
        """The clients whose states have changed since they were last taken."""
        changed, self._changed = self._changed, {}
        return [*changed]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
