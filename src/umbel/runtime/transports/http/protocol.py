"""The messages between server and client: MessagePack, checked while it is decoded. Knows no sockets.

    POST /v1/register                    Register → Registered
    POST /v1/next                        Poll → Next          (answers at once, or after at most POLL seconds)
    GET  /v1/contents/{name}             → a safetensors file; `Range: bytes=N-` goes on where it broke off
    POST /v1/tasks/{task}/reply          Offer → Outcome      (GO: send the data from `offset` on)
    PUT  /v1/tasks/{task}/offer/{offset} bytes → Outcome      (a piece of an Offer that does not go through as a whole)
    PUT  /v1/tasks/{task}/data/{offset}  bytes → Outcome
    POST /v1/tasks/{task}/commit         Commit → Outcome
    POST /v1/leave                       → 204

All but the first carry the session in the header `umbel-session`. A refusal is a status of 400 or above with a Problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from umbel.errors import WireError
from umbel.reports import MAX_METRICS, MAX_METRICS_SIZE
from umbel.rounds.messages import Kind
from umbel.runtime.transports.http.bounds import MAX_VALUES, check_values, count_values
from umbel.runtime.transports.http.names import check_name
from umbel.transforms import Applied

__all__ = [
    "FOLLOW",
    "GO",
    "INLINE",
    "OURS",
    "PART",
    "POLL",
    "SESSION",
    "VERSION",
    "WORKING",
    "Applied",
    "Commit",
    "ContentHead",
    "FailureHead",
    "Next",
    "Offer",
    "Outcome",
    "Poll",
    "Problem",
    "Refused",
    "Register",
    "Registered",
    "TaskHead",
    "check_name",
    "decode",
    "encode",
    "metrics_of",
]

VERSION = 1
SESSION = "umbel-session"
OURS = "umbel-server"  # a header that marks what the server says where it cannot speak MessagePack
POLL = 20.0  # seconds that a poll may stay open
FOLLOW = 1.0  # seconds that the answer to a reply may wait for the next task
PART = 8 * 2**20  # most bytes of data in one request
MAX_TASKS = 256  # that a client names as its own; it is owed one or two, and may name those that it has done
MAX_METRIC_BYTES = 2**22 + 2**16  # of an offer whose metrics are too many to be counted: passed over in 20 ms
INLINE = 2**20  # contents up to this size travel inside the message

# Outcome.verdict is a `Verdict`, or one of these.
GO = "go"
WORKING = "working"  # the reply is there; what becomes of it is not yet decided: ask again


class Register(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    client_id: str
    key: bytes = b""  # public Ed25519 keys, where the server asks for an identity: the client's own,
    token: bytes = b""  # and that of the token by which it joins


class Registered(msgspec.Struct):
    run: str
    session: str


Names = Annotated[list[str], msgspec.Meta(max_length=MAX_TASKS)]


class Poll(msgspec.Struct, forbid_unknown_fields=True):
    have: Names  # tasks that the client works on, or has an answer to


class ContentHead(msgspec.Struct):
    name: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**62)]  # bytes of the whole file
    crc32: int
    data: bytes | None = None  # the file itself, where it is small


class TaskHead(msgspec.Struct):
    id: str
    kind: Kind
    round: int
    config: dict[str, object]
    content: ContentHead | None = None
    seed: int | None = None  # of the run: a client with a lasting name seeds its draws from it
    max_metrics: int = MAX_METRICS  # of the answer; what there is more the client leaves out, in the order of its metrics
    max_metrics_size: int = MAX_METRICS_SIZE  # bytes of their names, texts and numbers
    transforms: tuple[Applied, ...] = ()  # what the client makes of its update before it sends it
    parts: dict[str, ContentHead] = {}  # what comes beside the model; the update has parts of these names and schemas, too


class Next(msgspec.Struct):
    tasks: list[TaskHead] = []
    cancelled: list[str] = []
    over: str | None = None  # why the run is over


class FailureHead(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    text: str
    detail: str = ""


class Offer(msgspec.Struct, forbid_unknown_fields=True):
    """What the client would reply. `header` is the safetensors header of `size` bytes of data; b"" for none."""

    num_examples: int = 0
    loss: float = 0.0
    metrics: msgspec.Raw = msgspec.Raw(b"\x80")  # a map; read only once its size is known to be no bomb's
    header: bytes = b""
    size: int = 0
    data: bytes | None = None
    crc32: int = 0  # of the data, where it is sent along
    failure: FailureHead | None = None
    have: Names | None = None  # as in Poll, where the answer may wait for the next task and bring it
    pieces: int = 0  # bytes of the offer, where it has come in pieces before: this one brings their crc32, and `have`
    surplus: int = 0  # metrics that the client has left out


class Commit(msgspec.Struct, forbid_unknown_fields=True):
    crc32: int  # of all data
    blake3: bytes = b""  # of all data, where the client has an identity: whoever can change it can fit a crc32 to that


class Outcome(msgspec.Struct):
    verdict: str
    why: str = ""
    offset: int = 0
    tasks: list[TaskHead] = []


class Problem(msgspec.Struct):
    why: str


class Refused(Exception):
    """A request that the server will not have: HTTP status and reason, and headers that go with it.

    `expected` ones are a step of the protocol, and nothing to write down.
    """

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None, *, expected: bool = False) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers
        self.expected = expected


def _is_message(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, msgspec.Struct)


T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
# Made here, in one thread: msgspec works a type out when it first meets it, and two threads that meet it at the same time
# end the process with a segmentation fault (0.22.0; a process of 125 clients died of it).
_decoders = {value: msgspec.msgpack.Decoder(value) for value in list(vars().values()) if _is_message(value)}
SMALL = 2**12  # bytes of a message that cannot have many values
_FROM_CLIENTS: frozenset[type] = frozenset({Register, Poll, Offer, Commit})
_metrics_decoder = msgspec.msgpack.Decoder(dict[str, object])


def encode(message: msgspec.Struct | Mapping[str, object]) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes | bytearray, type_: type[T], most: int = MAX_VALUES) -> T:
    """Raises `WireError` for bytes that are not such a message, and for more than `most` values, before they are made."""
    if len(data) > SMALL and type_ in _FROM_CLIENTS:
        # Metrics are decoded for themselves: where they are too many, the rest of the offer may count.
        apart = b"metrics" if type_ is Offer and len(data) <= MAX_METRIC_BYTES else b""
        try:
            check_values(data, apart=apart, most=most)
        except WireError as error:
            raise WireError(f"not a {type_.__name__} message: {error}") from None
    try:
        message: T = _decoders[type_].decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a {type_.__name__} message: {error}") from None
    return message


def metrics_of(offer: Offer, limit: int, most: int = MAX_VALUES) -> dict[str, object] | None:
    """An offer's metrics; None where they are longer than `limit` bytes, or more than `most` values: one may take 70 bytes.

    Raises `WireError` for what is no map from names.
    """
    if len(offer.metrics) > limit or count_values(memoryview(offer.metrics), 0, most)[0] > most:
        return None
    try:
        return _metrics_decoder.decode(offer.metrics)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a Offer message: {error} in `$.metrics`") from None
