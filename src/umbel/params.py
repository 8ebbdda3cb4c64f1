"""A model's parameters: one contiguous buffer, and the arrays that are views of it.

Knows numpy and the wire's layout; knows no files, clients or rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import WireError
from umbel.foreign import to_numpy
from umbel.named import DType, NamedArrays, NDArray, NDArrays, are_numbers, numbers
from umbel.wire import (
    BYTES,
    TRAVELS,
    Schema,
    TensorSpec,
    check_name,
    dtype_of,
    encode_header,
    parse_header,
    short,
    tag_of,
)

__all__ = [
    "Blob",
    "DType",
    "NDArray",
    "NDArrays",
    "NamedArrays",
    "Params",
    "as_arrays",
    "gather",
    "named_as",
    "schema_of",
]


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
        """Copies arrays, a list or by name, into one new buffer. Raises `WireError` for what cannot travel."""
        values = as_arrays(arrays)
        params = cls.empty(schema_of(values))
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

    def arrays(self) -> NamedArrays:
        """One view per tensor, in the model's order, under the tensors' names."""
        buffer = self.buffer
        arrays = [np.ndarray(shape, dtype, buffer, begin) for begin, _, dtype, shape in self.schema.places]
        for position in self.schema.blobs:
            arrays[position] = arrays[position].view(Blob)
        return NamedArrays(arrays, self.schema.names)

    def __getitem__(self, name: str) -> NDArray:
        begin, end, dtype, shape = self.schema.places[self.schema.names.index(name)]
        return self.buffer[begin:end].view(dtype).reshape(shape)

    def __repr__(self) -> str:
        return f"Params({len(self.schema)} tensors, {self.schema.nbytes:,} bytes)"


def as_arrays(values: object) -> NDArrays:
    """What people return for parameters, as a list of row-major arrays that share memory with it where they can.

    Takes a sequence of arrays, numpy scalars, Python numbers or arrays of torch (with gradients, on any device), JAX, MLX,
    TensorFlow or MXNet; or one bare array; or a mapping of names to these, such as a `state_dict`, which makes the list
    `NamedArrays`. bfloat16 stays bfloat16; bytes become a `Blob`. Raises `WireError` naming the array that cannot travel:
    strings, objects, complex numbers, sparse arrays, ragged lists.

    >>> [a.dtype.name for a in as_arrays([1.5, np.int8(3), True])]
    ['float64', 'int8', 'bool']
    >>> as_arrays({"w": [1.5], "b": 2}).names
    ('w', 'b')
    """
    if type(values) is list:
        return [_as_array(position, value) for position, value in enumerate(values)]
    if type(values) is NamedArrays:
        names = values.names if values.are_named else None
        return NamedArrays([_as_array(position, value) for position, value in enumerate(values)], names)
    if isinstance(values, Mapping):
        for name in values:
            if not isinstance(name, str):
                raise WireError(f"the names of parameters are str; got {short(name)}, a {type(name).__name__}")
            check_name(name)
        arrays = [_as_array(name, value) for name, value in values.items()]
        return NamedArrays(arrays, _on_wire([*values], arrays))
    if isinstance(values, np.ndarray) and (values.dtype != object or values.ndim == 0):
        values = [values]
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        remedy = "; give its state_dict()" if hasattr(values, "state_dict") else ""
        remedy = "; make a list of it, or a dict where it gives pairs" if isinstance(values, Iterator) else remedy
        raise WireError(
            "parameters are a list of arrays, or a mapping of names to arrays, such as a state_dict; got "
            f"{type(values).__name__}{remedy}"
        )
    return [_as_array(position, value) for position, value in enumerate(values)]


def _as_array(place: int | str, value: object) -> NDArray:
    if isinstance(value, (bytes, bytearray, Blob)):
        return np.frombuffer(value, np.uint8).view(Blob) if len(value) else np.empty(0, np.uint8).view(Blob)
    if type(value) is np.ndarray and value.flags.c_contiguous and value.dtype in TRAVELS:  # nearly always: 0.3 µs
        return value
    called = f"array {place}" if isinstance(place, int) else f"array {short(place)}"
    if isinstance(value, Mapping):
        raise WireError(f"{called} is a {type(value).__name__}: names are flat; call what is in it {short(f'{place}.…')}")
    try:
        array: NDArray = to_numpy(value)
    except WireError as error:
        raise WireError(f"{called} is {error}") from None
    except Exception as error:  # some library's own
        raise WireError(f"{called} is a {type(value).__name__} that numpy cannot read: {error}") from None
    try:
        tag = tag_of(array.dtype)
    except WireError as error:
        what = f"; this is a {type(value).__name__}" if array.dtype == object else ""
        raise WireError(f"{called}: {error}{what}") from None
    return array.astype(dtype_of(tag), order="C", copy=False)


def _on_wire(names: Sequence[str], arrays: NDArrays) -> Sequence[str]:
    """The names of these arrays on the wire, where bytes are told from numbers by the name's end."""
    if Blob not in set(map(type, arrays)):
        return names
    ends = [BYTES if isinstance(array, Blob) else "" for array in arrays]
    return [name if name.endswith(end) else name + end for name, end in zip(names, ends, strict=True)]


def named_as(arrays: NDArrays, names: Sequence[str]) -> NDArrays:
    """What somebody has returned for the arrays of these names, under those names and in their order.

    Arrays with names of their own are found by name, others by position. Where a name is missing or another one is there,
    or their number differs, they stay as they are: whoever checks them says what is odd.

    >>> named_as(as_arrays({"b": [1, 2], "w": 3}), ("w", "b"))
    [array(3), array([1, 2])]
    """
    if len(arrays) != len(names):
        return arrays
    if isinstance(arrays, NamedArrays) and arrays.are_named:
        if arrays.names is names or arrays.names == names:
            return arrays
        if not are_numbers(arrays.names):
            if {*arrays.names} != {*names}:
                return arrays
            found = dict(arrays.items())
            return NamedArrays([found[name] for name in names], names)
    return NamedArrays(arrays, _on_wire(names, arrays))


def schema_of(arrays: NDArrays, names: Sequence[str] | None = None) -> Schema:
    """The schema of these arrays; those without names are called "0", "1", … ("00", …, "11"), and bytes "2.bytes".

    >>> schema_of([np.zeros((2, 3), "float32")]).specs[0]
    TensorSpec(name='0', dtype='F32', shape=(2, 3))
    """
    if names is None:
        names = _on_wire(arrays.names if isinstance(arrays, NamedArrays) else numbers(len(arrays)), arrays)
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
