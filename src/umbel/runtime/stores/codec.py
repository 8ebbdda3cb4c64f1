"""Inputs, notices and states as bytes: MessagePack, read back into exactly the type they had. Never a pickle."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import get_args

import msgspec
import numpy as np

from umbel.dialogue import as_text, plain_scalar
from umbel.errors import StoreError
from umbel.population import Clients
from umbel.rounds.coordinator import State
from umbel.rounds.messages import Command, Input, Publish
from umbel.rounds.notices import Notice

__all__ = [
    "check_of",
    "decode_input",
    "decode_notices",
    "decode_state",
    "digest",
    "encode",
    "encode_notices",
    "plain",
    "writable",
]

# Decoders are made here, in one thread: msgspec cannot work a type out in two threads at the same time (0.22.0).
_inputs = {type_.__name__: msgspec.msgpack.Decoder(type_) for type_ in get_args(Input)}
_state = msgspec.msgpack.Decoder(State)
_notices = {type_.__name__: msgspec.msgpack.Decoder(type_) for type_ in get_args(Notice)}
_named_notices = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw]])


def plain(value: object) -> object:
    """What an owner's function returned as something that can be written: numbers as numbers, the rest as its repr."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Clients):
        return value.numbered, value.others, value.away
    scalar = plain_scalar(value)
    return repr(value) if scalar is value else scalar


_encoder = msgspec.msgpack.Encoder(enc_hook=plain)


def encode(value: object) -> bytes:
    return _encoder.encode(value)


def digest(commands: Sequence[Command]) -> bytes:
    """8 bytes that tell these commands from others, in every process; 1 µs per command."""
    named = [(type(c.event if isinstance(c, Publish) else c).__name__, c) for c in commands]
    return blake2b(encode(named), digest_size=8).digest()


def check_of(*values: object) -> int:
    """The crc32 of a row's values, by which it is known again; 1 µs."""
    return zlib.crc32(encode(values))


def writable(value: object) -> object:
    """The value itself where it can be written and read back; otherwise its repr. A numpy or torch scalar is its number.

    What a run goes by is then what a resumed run reads.

    >>> writable(0.5), writable(np.float32(0.5)), writable(2**70)
    (0.5, 0.5, '1180591620717411303424')
    """
    value = plain_scalar(value)
    try:
        msgspec.msgpack.decode(encode(value))
    except (ValueError, TypeError, OverflowError, RecursionError):  # MsgspecError is a ValueError
        return as_text(repr(value))
    return value


def decode_input(kind: str, body: bytes) -> Input:
    """Raises `StoreError` for a row that is not what was written."""
    try:
        event: Input = _inputs[kind].decode(body)
    except (KeyError, ValueError, RecursionError) as error:  # MsgspecError is a ValueError
        raise StoreError(f"a journal row of type {kind!r} cannot be read: {error}") from None
    return event


def encode_notices(notices: Iterable[Notice]) -> bytes:
    return encode([(type(notice).__name__, notice) for notice in notices])


def decode_notices(body: bytes) -> list[Notice]:
    """Raises `StoreError` for a row that is not what was written."""
    try:
        return [_notices[kind].decode(notice) for kind, notice in _named_notices.decode(body)]
    except (KeyError, ValueError, RecursionError) as error:
        raise StoreError(f"a row of the History cannot be read: {error}") from None


def decode_state(body: bytes) -> State:
    """Raises `StoreError` for a snapshot that is not what was written."""
    try:
        return _state.decode(body)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"a snapshot cannot be read: {error}") from None
