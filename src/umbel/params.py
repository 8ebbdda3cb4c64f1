"""A model's parameters: one contiguous buffer, and the arrays that are views of it.

Knows numpy and the wire's layout; knows no files, clients or rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import WireError
from umbel.wire import BYTES, TRAVELS, Schema, TensorSpec, dtype_of, encode_header, parse_header, tag_of

__all__ = ["Blob", "DType", "NDArray", "NDArrays", "Params", "as_arrays", "gather", "schema_of"]

DType = np.dtype[Any]
NDArray = npt.NDArray[Any]  # of whichever dtype: a model mixes them
NDArrays = list[NDArray]


class Blob(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes among a model's tensors, such as a booster: an array of uint8, shape (n,), which `bytes(blob)` gives back.

    Its name on the wire tells it from numbers that happen to be uint8.

    >>> bytes(as_arrays([b"trees"])[0])
    b'trees'
    """



class Params:
    """Named tensors in safetensors layout.

    `buffer` holds the data without the header, uint8, shape `(schema.nbytes,)`. The arrays are views of it, writable
    where it is; position and name both find them.

    >>> p = Params.of([np.ones((2, 2), "float32"), np.arange(3)])
    >>> p["1"].tolist(), [a.shape for a in p.arrays()]
    ([0, 1, 2], [(2, 2), (3,)])
    """

    __slots__ = ("buffer", "schema")

    def __init__(self, schema: Schema, buffer: npt.NDArray[np.uint8]) -> None:
        if buffer.nbytes != schema.nbytes:
            raise WireError(f"the schema needs {schema.nbytes} bytes of data, {buffer.nbytes} are there")
        self.schema = schema
        self.buffer = buffer

    @classmethod
    def of(cls, arrays: Sequence[object] | Mapping[str, object]) -> Params:
        """Copies arrays, by position or by name, into one new buffer. Raises `WireError` for what cannot travel."""
        names = list(arrays) if isinstance(arrays, Mapping) else None
        values = as_arrays(list(arrays.values()) if isinstance(arrays, Mapping) else arrays)
        params = cls.empty(schema_of(values, names))
        for view, value in zip(params.arrays(), values, strict=True):
            view[...] = value
        return params

    @classmethod
    def empty(cls, schema: Schema) -> Params:
        """Parameters of this schema with undefined values, in memory of their own."""
        return cls(schema, np.empty(schema.nbytes, np.uint8))

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Params:
        """Reads a whole safetensors file, without copying; writable if `data` is. Raises `WireError`."""
        view = memoryview(data).cast("B")
        end = 8 + int.from_bytes(view[:8], "little")
        schema = parse_header(view[:end])
        return cls(schema, np.frombuffer(view[end:], np.uint8))

    def to_bytes(self) -> bytes:
        """The whole safetensors file: header and data."""
        return encode_header(self.schema) + self.buffer.tobytes()

    def arrays(self) -> NDArrays:
        """One view per tensor, in the model's order."""
        buffer = self.buffer
        arrays = [np.ndarray(shape, dtype, buffer, begin) for begin, _, dtype, shape in self.schema.places]
        for position in self.schema.blobs:
            arrays[position] = arrays[position].view(Blob)
        return arrays

    def __getitem__(self, name: str) -> NDArray:
        begin, end, dtype, shape = self.schema.places[self.schema.names.index(name)]
        return self.buffer[begin:end].view(dtype).reshape(shape)

    def __repr__(self) -> str:
        return f"Params({len(self.schema)} tensors, {self.schema.nbytes:,} bytes)"


def as_arrays(values: object) -> NDArrays:
    """What people return for parameters, as a list of row-major arrays that share memory with it where they can.

    Takes a sequence of arrays, numpy scalars, Python numbers or anything that numpy reads (mlx, torch on the CPU), or one
    bare array; bytes become a `Blob`. Raises `WireError` naming the position of what cannot travel: strings, objects,
    complex numbers, ragged lists.

    >>> [a.dtype.name for a in as_arrays([1.5, np.int8(3), True])]
    ['float64', 'int8', 'bool']
    """
    if type(values) is not list:
        if isinstance(values, np.ndarray) and (values.dtype != object or values.ndim == 0):
            values = [values]
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
            raise WireError(f"parameters are a list of arrays; got {type(values).__name__}")
    return [_as_array(position, value) for position, value in enumerate(values)]


def _as_array(position: int, value: object) -> NDArray:
    if isinstance(value, (bytes, bytearray, Blob)):
        return np.frombuffer(value, np.uint8).view(Blob) if len(value) else np.empty(0, np.uint8).view(Blob)
    if type(value) is np.ndarray and value.flags.c_contiguous and value.dtype in TRAVELS:  # nearly always: 0.3 µs
        return value
    try:
        array = np.asarray(value, order="C")
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(f"array {position} is a {type(value).__name__} that numpy cannot read: {error}") from None
    try:
        tag = tag_of(array.dtype)
    except WireError as error:
        raise WireError(f"array {position}: {error}") from None
    return array.astype(dtype_of(tag), order="C", copy=False)


def schema_of(arrays: NDArrays, names: Sequence[str] | None = None) -> Schema:
    """The schema of these arrays; without names they are called "0", "1", …, and bytes "2.bytes".

    >>> schema_of([np.zeros((2, 3), "float32")]).specs[0]
    TensorSpec(name='0', dtype='F32', shape=(2, 3))
    """
    if names is None:
        names = [f"{i}{BYTES}" if isinstance(array, Blob) else str(i) for i, array in enumerate(arrays)]
    return Schema(
        tuple(TensorSpec(name, tag_of(a.dtype), a.shape) for name, a in zip(names, arrays, strict=True))
    )


def gather(schema: Schema, arrays: NDArrays, start: int, stop: int) -> Iterator[memoryview]:
    """The data bytes `start` to `stop` of these row-major arrays as views of their memory: nothing is copied.

    >>> a = np.arange(4, dtype="uint8")
    >>> [bytes(v) for v in gather(schema_of([a, a]), [a, a], 2, 6)]
    [b'\\x02\\x03', b'\\x00\\x01']
    """
    for position in schema.layout:
        begin, end, _, _ = schema.places[position]
        low, high = max(start - begin, 0), min(stop, end) - begin
        if low < high:
            yield arrays[position].reshape(-1).view(np.uint8)[low:high].data
