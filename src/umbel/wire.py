"""Tensors as bytes: the safetensors header, read and written with our own dtype table.

Knows bytes and dtypes; knows no files, sockets or models. `safetensors.numpy` cannot load the bfloat16 and float8 tensors
that it saves, so the table is ours; the format is theirs (https://github.com/huggingface/safetensors, "Format"):

    8 bytes   N, the length of the header, unsigned little-endian
    N bytes   JSON: {name: {"dtype": tag, "shape": [...], "data_offsets": [begin, end]}, ...}, padded with spaces
    the rest  the tensors' bytes, little-endian, row-major, without holes

Two rules are stricter than the format's, and every file that the reference library writes keeps them too. The order of
names in the JSON is the order of the model; the *data* lie by decreasing item size, in that order. So every tensor is
aligned, and the layout follows from names, dtypes and shapes alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, islice
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from umbel.errors import WireError

__all__ = [
    "BYTES",
    "LARGEST",
    "MAX_HEADER",
    "TRAVELS",
    "Schema",
    "Source",
    "Table",
    "TensorSpec",
    "add_metadata",
    "check_name",
    "dtype_of",
    "encode_header",
    "know",
    "largest_of",
    "parse_header",
    "parse_table",
    "short",
    "shorten",
    "tag_of",
]

BYTES = ".bytes"  # ends the name of a U8 tensor that is somebody's bytes, such as a booster

LARGEST = 1e290  # of what travels: a weighted float64 sum of this, times the largest weight, over 10^8 clients, is finite
MAX_HEADER = 16 * 2**20  # bytes; about 150,000 tensors
_MAX_RANK = 32  # numpy 1.x stops there
_MAX_BYTES = 2**62
_METADATA = "__metadata__"  # a key of the format's own: {str: str}

Source = Callable[[int, memoryview], None]  # reads data bytes from an offset on into a writable buffer

_DTYPES: dict[str, np.dtype[Any]] = {
    tag: np.dtype(scalar)
    for tag, scalar in {
        "BOOL": np.bool_,
        "U8": np.uint8,
        "I8": np.int8,
        "U16": np.uint16,
        "I16": np.int16,
        "U32": np.uint32,
        "I32": np.int32,
        "U64": np.uint64,
        "I64": np.int64,
        "F16": np.float16,
        "F32": np.float32,
        "F64": np.float64,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    }.items()
}
_TAGS = {dtype: tag for tag, dtype in _DTYPES.items()}
TRAVELS = frozenset(_TAGS)  # dtypes in this machine's byte order


def dtype_of(tag: str) -> np.dtype[Any]:
    """The numpy dtype of a safetensors tag.

    >>> dtype_of("F32")
    dtype('float32')
    """
    try:
        return _DTYPES[tag]
    except (KeyError, TypeError):
        raise WireError(f"unknown dtype {short(tag)}; Umbel reads {', '.join(_DTYPES)}") from None


@lru_cache(maxsize=64)
def largest_of(dtype: np.dtype[Any]) -> float:
    """The largest value that may travel in a floating tensor of this dtype."""
    return LARGEST if dtype.itemsize == 8 else float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # its stub


def tag_of(dtype: np.dtype[Any]) -> str:
    """The safetensors tag of a numpy dtype, whatever its byte order.

    >>> tag_of(np.dtype(">i8"))
    'I64'
    """
    try:
        return _TAGS[dtype.newbyteorder("=")]
    except KeyError:
        raise WireError(f"dtype {dtype} cannot travel; Umbel sends booleans, integers and real floats") from None


class TensorSpec(NamedTuple):
    """One tensor without its values: name, safetensors tag of its dtype, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * dtype_of(self.dtype).itemsize

    @property
    def is_float(self) -> bool:
        return self.dtype[0] in "FB" and self.dtype != "BOOL"


@dataclass(frozen=True)
class Schema:
    """Names, dtypes and shapes of a model's tensors, in the model's order; from them follows where each one lies.

    >>> s = Schema((TensorSpec("a", "U8", (3,)), TensorSpec("b", "F32", (2,))))
    >>> s.offsets, s.nbytes   # b first: its items are larger
    ((8, 0), 11)
    """

    specs: tuple[TensorSpec, ...]

    @cached_property
    def layout(self) -> tuple[int, ...]:
        """Positions in `specs`, in the order in which the data lie."""
        return tuple(sorted(range(len(self.specs)), key=lambda i: -dtype_of(self.specs[i].dtype).itemsize))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """For each spec the first byte of its data, counted from the end of the header."""
        ends = accumulate((self.specs[i].nbytes for i in self.layout), initial=0)
        begin = dict(zip(self.layout, ends, strict=False))
        return tuple(begin[i] for i in range(len(self.specs)))

    @cached_property
    def places(self) -> tuple[tuple[int, int, np.dtype[Any], tuple[int, ...]], ...]:
        """For each spec: first byte of its data, the byte after its last, numpy dtype and shape."""
        return tuple(
            (begin, begin + spec.nbytes, dtype_of(spec.dtype), spec.shape)
            for spec, begin in zip(self.specs, self.offsets, strict=True)
        )

    @cached_property
    def forms(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """For each spec its numpy dtype and shape."""
        return [(dtype, shape) for _, _, dtype, shape in self.places]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of data, without the header."""
        return sum(spec.nbytes for spec in self.specs)

    @cached_property
    def blobs(self) -> tuple[int, ...]:
        """Positions of the tensors that are somebody's bytes."""
        return tuple(i for i, spec in enumerate(self.specs) if spec.name.endswith(BYTES) and spec.dtype == "U8")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    def __len__(self) -> int:
        return len(self.specs)


_KNOWN_MOST = 8  # layouts: the model's, those of optimizers' slots, and the same of a run or two before
_KNOWN_BYTES = 32 * 2**20  # of their headers together
_known: tuple[tuple[bytes, Schema], ...] = ()  # the newest first; replaced as a whole, so that any thread may read it


def know(schema: Schema) -> Schema:
    """Has the header of this layout no longer read and written anew: 5 ms at 300 tensors. Returns the one schema for it.

    For layouts that are the run's own: a stranger chooses none of them, and can neither fill this nor drive others out.
    """
    global _known
    if any(known is schema for _, known in _known):
        return schema
    header = encode_header(schema)
    for other, known in _known:
        if other == header:
            return known
    kept, size = [(header, schema)], len(header)
    for entry in _known[: _KNOWN_MOST - 1]:
        size += len(entry[0])
        if size <= _KNOWN_BYTES:
            kept.append(entry)
    _known = tuple(kept)
    return schema


def encode_header(schema: Schema) -> bytes:
    """The bytes that stand before the data: length, JSON, and spaces up to a multiple of eight.

    Raises `WireError` for more than `MAX_HEADER` bytes, and for names that a reader could not tell apart again.
    """
    for header, known in _known:
        if known is schema or known.specs == schema.specs:
            return header
    for name, count in Counter(schema.names).items():
        check_name(name)
        if count > 1:
            raise WireError(f"{count} tensors are called {short(name)}; give each a name of its own")
    table = {
        spec.name: {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [begin, begin + spec.nbytes]}
        for spec, begin in zip(schema.specs, schema.offsets, strict=True)
    }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise WireError(f"{len(schema)} tensors need a header of {len(text)} bytes; the limit is {MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text


def add_metadata(header: bytes, metadata: Mapping[str, str]) -> bytes:
    """The header with what the file says about itself, as the format has it: texts by name, before the tensors.

    >>> parse_table(add_metadata(encode_header(Schema(())), {"round": "3"})).metadata
    {'round': '3'}
    """
    said = json.dumps({_METADATA: metadata}, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    table = header[9:].rstrip(b" ")
    text = said + (b"," if len(table) > 1 else b"") + table
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class Table(NamedTuple):
    """What a header says: each tensor with the first of its data bytes and the one after its last, and the metadata."""

    tensors: list[tuple[TensorSpec, int, int]]
    metadata: dict[str, str]


def parse_header(data: bytes | memoryview) -> Schema:
    """The schema written in `data`: exactly one header, from its length to its last space.

    Raises `WireError` for anything else: it is the only thing that hostile bytes can raise here.
    """
    for header, known in _known:
        if len(header) == len(data) and header == data:
            return known
    tensors, _ = parse_table(data)
    schema = Schema(tuple(spec for spec, _, _ in tensors))
    if schema.nbytes > _MAX_BYTES:
        raise WireError(f"the header announces {schema.nbytes} bytes")
    for (spec, claims, ends), begin in zip(tensors, schema.offsets, strict=True):
        if (claims, ends) != (begin, begin + spec.nbytes):
            raise WireError(
                f"tensor {short(spec.name)} claims bytes {short([claims, ends])}, but its place is "
                f"[{begin}, {begin + spec.nbytes}]: "
                "data lie without holes, by decreasing item size, then in the order of the names"
            )
    return schema


def parse_table(data: bytes | memoryview) -> Table:
    """What a header says, wherever it has the data lie. Raises `WireError`, as `parse_header` does."""
    if len(data) < 8:
        raise WireError(f"a header needs at least 8 bytes, got {len(data)}")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER:
        raise WireError(f"the header claims {length} bytes; the limit is {MAX_HEADER}")
    if len(data) != 8 + length:
        raise WireError(f"the header claims {length} bytes, {len(data) - 8} are there")
    try:
        table = json.loads(bytes(data[8:]).decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is not JSON: {error}") from None
    if not isinstance(table, dict) or data[8:9] != b"{":
        raise WireError(f"the header is a JSON {type(table).__name__}; expected an object, from its first byte on")
    metadata = table.pop(_METADATA, {})
    _check_metadata(metadata)
    return Table([(_spec(name, entry), *entry["data_offsets"]) for name, entry in table.items()], metadata)


def _spec(name: str, entry: object) -> TensorSpec:
    match entry:
        case {"dtype": str(tag), "shape": list(shape), "data_offsets": [begin, end], **rest} if not rest:
            check_name(name)
            if len(shape) > _MAX_RANK:
                raise WireError(f"tensor {short(name)} has {len(shape)} dimensions; the limit is {_MAX_RANK}")
            if not all(type(n) is int and 0 <= n < _MAX_BYTES for n in shape):
                raise WireError(f"tensor {short(name)} has the impossible shape {short(shape)}")
            if type(begin) is not int or type(end) is not int:  # 0.0 == 0 and False == 0
                raise WireError(f"tensor {short(name)} claims bytes {short([begin, end])}; offsets are whole numbers")
            # numpy multiplies the other dimensions of an empty array, too
            if math.prod(n for n in shape if n) * dtype_of(tag).itemsize > _MAX_BYTES:
                raise WireError(f"tensor {short(name)} has the impossible shape {short(shape)}")
            return TensorSpec(name, tag, tuple(shape))
        case _:
            raise WireError(f"tensor {short(name)} is described by {short(entry)}; expected dtype, shape, data_offsets")


def check_name(name: str) -> None:
    """Raises `WireError` for a name that no tensor can have in a file."""
    if name == _METADATA:
        raise WireError(f"no tensor can be called {_METADATA!r}: the format keeps that name for itself")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise WireError(f"the name {short(name)} is not Unicode text") from None


def _check_metadata(entry: object) -> None:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise WireError(f"{_METADATA} is {short(entry)}; expected an object of strings")


def _once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise WireError(f"the header names {short(key)} twice")
        table[key] = value
    return table


def _no_constant(text: str) -> object:
    raise WireError(f"the header contains {text}")


def short(value: object, limit: int = 80) -> str:
    """`repr(value)`, cut off where a stranger could make it long."""
    try:
        text = repr(value)
    except Exception:  # an integer of more digits than Python writes, or a class of the user's own
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[:limit] + "…"


def shorten(names: Collection[str], most: int = 5) -> str:
    """A list of names that fits a line.

    >>> shorten(("a", "b", "c"), most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(islice(names, most))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
