"""What reads bytes that somebody else has written: each takes any bytes, and raises Umbel's own errors or none.

A target is a function of bytes. It raises nothing for bytes that are refused as they should be, and lets every other error
out; seeds are valid inputs to begin from.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from umbel.door import Door
from umbel.errors import Rejected, RunMismatch, StoreError, WireError
from umbel.pace import Pace
from umbel.params import Params
from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import (
    Chosen,
    Evaluated,
    Initialized,
    Joined,
    Kind,
    Left,
    Member,
    Replied,
    Reply,
    Started,
    Stepped,
    Ticked,
)
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.observers.history import History
from umbel.runtime.replay import replay
from umbel.runtime.security.signatures import parse_digest, signed_with
from umbel.runtime.stores.codec import decode_input, decode_state, encode
from umbel.runtime.stores.database import Kept
from umbel.runtime.transports.http import protocol
from umbel.runtime.transports.http.link import whole
from umbel.runtime.transports.http.upload import Upload
from umbel.wire import encode_header, parse_header

__all__ = ["TARGETS", "Target"]

MODEL = Params.of({"conv.weight": np.arange(6, dtype="f4").reshape(2, 3), "steps": np.int64(7), "mask": np.array([True])})
FILE = bytes(MODEL.to_bytes())
HEADER = encode_header(MODEL.schema)
DATA = MODEL.buffer.tobytes()
INPUTS = (Started, Joined, Left, Replied, Ticked)


class Target(NamedTuple):
    """A reader and what it should be able to read."""

    run: Callable[[bytes], None]
    seeds: list[bytes]


def tensors(data: bytes) -> None:
    """A model, from a content file or an upload: whatever is taken has the values that its bytes say."""
    with contextlib.suppress(WireError):
        params = Params.from_bytes(data)
        for array in params.arrays():
            assert array.nbytes <= len(data)
            array.copy()
        assert Params.from_bytes(params.to_bytes()).schema == params.schema


def header(data: bytes) -> None:
    """The header alone: what is taken is written again as it was read."""
    with contextlib.suppress(WireError):
        schema = parse_header(data)
        assert parse_header(encode_header(schema)) == schema
        assert schema.nbytes >= 0


def requests(data: bytes) -> None:
    """What a server is sent."""
    for type_ in (protocol.Register, protocol.Poll, protocol.Commit):
        with contextlib.suppress(WireError):
            protocol.decode(data, type_)


def offer(data: bytes) -> None:
    """An update on its way through the door, into a file."""
    contents = MemoryContents()
    door = Door(Kind.FIT, MODEL.schema, 10**9, 2**40)
    with contextlib.suppress(WireError, Rejected):
        offered = protocol.decode(data, protocol.Offer)
        metrics = protocol.metrics_of(offered, door.room.encoded)
        schema = parse_header(offered.header)
        if metrics is None or schema.nbytes != offered.size:
            return
        reply = Reply(offered.num_examples, offered.loss, metrics, "content")
        door.admit(reply, schema)
        upload = Upload(contents, "content", schema, reply, door.value_check(schema))
        sent = offered.data or b""
        for begin in range(0, len(sent), 5):  # no chunk is a whole number
            upload.feed(sent[begin : begin + 5])
        if upload.commit(offered.crc32):
            content = contents.open("content")
            taken = Params.from_bytes(bytearray(content.read(0, content.size)))
            assert taken.schema.names == MODEL.schema.names
            assert all(np.isfinite(array).all() for array in taken.arrays())


def answers(data: bytes) -> None:
    """What a client is sent: task heads, contents, verdicts."""
    for type_ in (protocol.Registered, protocol.Outcome, protocol.Problem, protocol.Next):
        with contextlib.suppress(WireError):
            told = protocol.decode(data, type_)
            for head in getattr(told, "tasks", []):
                assert head.kind in Kind
                if head.content is not None and head.content.data is not None:
                    whole(head.content, np.frombuffer(head.content.data, np.uint8))


def journal(data: bytes) -> None:
    """A journal's row; the first byte says of which type it is."""
    kind = INPUTS[data[0] % len(INPUTS)].__name__ if data else "Nothing"
    with contextlib.suppress(StoreError):
        event = decode_input(kind, data[1:])
        with contextlib.suppress(ValueError):  # NaN, which equals nothing
            assert encode(decode_input(kind, encode(event))) == encode(event)


def checkpoint(data: bytes) -> None:
    """A snapshot of the coordinator's state."""
    with contextlib.suppress(StoreError):
        decode_state(data)


def resumed(data: bytes) -> None:
    """A run as it was kept: the state and the History of a snapshot, and rows after it, fed through the coordinator."""
    try:
        state, history, rows = msgspec.msgpack.decode(data, type=tuple[bytes, bytes, list[tuple[str, float, bytes]]])
    except ValueError:
        return  # not even the parts
    with contextlib.suppress(StoreError, RunMismatch):
        coordinator = Coordinator(Rules(run="run", min_available=2, pace=Pace()), decode_state(state))
        History.from_bytes(history)
        kept = (Kept(seq, decode_input(kind, body), at, None) for seq, (kind, at, body) in enumerate(rows, 1))
        for _ in replay(coordinator, kept):
            pass


def signatures(data: bytes) -> None:
    """The headers of a signed request."""
    text = data.decode("latin-1")
    first, _, second = text.partition("\n")
    with contextlib.suppress(WireError):
        signed_with(first, second)
    with contextlib.suppress(WireError):
        parse_digest(text)


def _offer(**changes: object) -> bytes:
    good = {
        "num_examples": 10,
        "loss": 0.5,
        "metrics": {"accuracy": 0.5, "n": 3},
        "header": HEADER,
        "size": len(DATA),
        "data": DATA,
        "crc32": zlib.crc32(DATA),
    }
    return msgspec.msgpack.encode(good | changes)


def _task(**changes: object) -> bytes:
    content = {"name": "model-000001", "size": len(FILE), "crc32": zlib.crc32(FILE), "data": FILE}
    task = {"id": "run.1.fit.0.1", "kind": "fit", "round": 1, "config": {"lr": 0.1}, "content": content}
    return msgspec.msgpack.encode({"tasks": [task | changes], "cancelled": ["x"], "over": None})


def _run() -> bytes:
    """A run of two clients, of whom one has answered."""
    coordinator = Coordinator(Rules(run="run", min_available=2, pace=Pace()), State(num_rounds=3))
    begin = Started(), Initialized(True), Evaluated(), Joined("a"), Joined("b"), Chosen((Member("a"), Member("b")))
    for event in begin:
        coordinator.handle(event, 0.5)
    rest = Replied("run.1.fit.0.0", Reply(3, content="c")), Left("b"), Stepped(1)
    rows = [(type(event).__name__, 1.0, encode(event)) for event in rest]
    return msgspec.msgpack.encode((encode(coordinator.state), History().to_bytes(), rows))


_SIGNED = b'umbel=("@method" "@path" "content-digest");nonce="17";keyid="ab";alg="ed25519"\numbel=:' + b"A" * 86 + b"==:"

TARGETS = {
    "tensors": Target(tensors, [FILE, Params.of([]).to_bytes()]),
    "header": Target(header, [HEADER]),
    "requests": Target(
        requests,
        [protocol.encode(protocol.Register(1, "a")), protocol.encode(protocol.Poll(["t"])), b"\x81\xa5crc32\x07"],
    ),
    "offer": Target(offer, [_offer(), _offer(data=None), _offer(metrics={}, num_examples=0)]),
    "answers": Target(answers, [_task(), _task(content=None), protocol.encode(protocol.Outcome("go", "", 8))]),
    "journal": Target(
        journal,
        [
            b"\x01" + encode(Joined("a")),
            b"\x02" + encode(Left("a", "why")),
            b"\x03" + encode(Replied("run.1.fit.0.1", Reply(3, 0.5, {"m": 1.0}, "c"))),
        ],
    ),
    "checkpoint": Target(checkpoint, [encode(State(num_rounds=3))]),
    "resumed": Target(resumed, [_run()]),
    "signatures": Target(signatures, [_SIGNED, b"blake3=:" + b"A" * 43 + b"=:"]),
}
