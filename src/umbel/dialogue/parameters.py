"""`Parameters` of the classic API: tensors that are read only when somebody looks. Knows no rounds and no I/O."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from umbel.dialogue.results import Provenance
from umbel.errors import StrategyError, WireError
from umbel.fold import in_memory
from umbel.params import Blob, NamedArrays, NDArray, NDArrays, Params, as_arrays, gather, named_as, schema_of
from umbel.wire import Schema, Source

__all__ = [
    "GivenParameters",
    "Parameters",
    "as_parameters",
    "bytes_to_ndarray",
    "ndarray_to_bytes",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
]


class Parameters:
    """A list of tensors.

    `tensors` are the bytes of `numpy.save`, one per tensor, and `tensor_type` says so; with any other type they are
    somebody's own bytes, such as a booster. `names` says what they are called; a mapping of names to bytes, or to arrays,
    says both. Inside Umbel parameters are arrays, or a recipe for reading them block by block
    from a file or from a combination of files; the bytes, and the arrays, are made only when somebody asks for them.
    """

    __slots__ = ("_arrays", "_lazy", "_names", "_tensors", "provenance", "tensor_type", "unfit")

    def __init__(
        self,
        tensors: Sequence[bytes] | Mapping[str, object],
        tensor_type: str = "numpy.ndarray",
        names: Sequence[str] | None = None,
    ) -> None:
        self._tensors: list[bytes] | None = None
        self._arrays: NDArrays | None = None
        if not isinstance(tensors, Mapping):
            self._tensors = list(tensors)
        elif all(isinstance(value, bytes) for value in tensors.values()):
            self._tensors, names = [*tensors.values()], [*tensors]  # type: ignore[list-item]  # all of them are bytes
        else:
            self._arrays = _copies(as_arrays(tensors))
        self._names = None if names is None else tuple(names)
        self._lazy: tuple[Schema, Callable[[], Iterator[memoryview]], Source | None] | None = None
        self.provenance: Provenance | None = None  # where they come from, as they were received
        self.unfit = ""  # why they cannot be combined with others, where that is known
        self.tensor_type = tensor_type

    @classmethod
    def of(cls, arrays: NDArrays) -> Parameters:
        """Parameters that hold these arrays; nothing is copied."""
        all_bytes = bool(arrays) and all(isinstance(array, Blob) for array in arrays)
        parameters = cls([], "" if all_bytes else "numpy.ndarray")
        parameters._tensors, parameters._arrays = None, arrays
        return parameters

    @classmethod
    def lazy(
        cls, schema: Schema, blocks: Callable[[], Iterator[memoryview]], source: Source | None = None
    ) -> Parameters:
        """Parameters whose data bytes `blocks()` yields in layout order, each view valid until the next.

        `source` reads them at random, where that is possible without making them all.
        """
        parameters = cls([])
        parameters._tensors, parameters._lazy = None, (schema, blocks, source)
        return parameters

    @classmethod
    def received(
        cls, provenance: Provenance, content: tuple[Schema, Callable[[], Iterator[memoryview]], Source] | None
    ) -> Parameters:
        """An update as it was received: what `lazy` takes, or None where there is only the sum that has it."""
        parameters = cls.__new__(cls)  # without __init__: 1 µs of each of ten thousand
        parameters._tensors = parameters._arrays = parameters._names = None
        parameters._lazy, parameters.provenance = content, provenance
        parameters.tensor_type, parameters.unfit = "numpy.ndarray", ""
        return parameters

    @property
    def in_sum(self) -> Provenance | None:
        """Where they are in a sum as they are. None once their arrays or bytes are there: those may be changed in place."""
        summed = self.provenance is not None and self.provenance.total is not None
        return self.provenance if summed and self._arrays is None and self._tensors is None else None

    @property
    def is_alone(self) -> bool:
        """Whether they can be read by themselves."""
        return self._lazy is not None or self.provenance is None or self.provenance.total is None

    def read_from(self, written: Parameters) -> None:
        """A recipe has been followed: from now on it is to read what it has made, which `written` reads."""
        if self._lazy is not None:
            self._lazy = written._lazy

    @property
    def is_recipe(self) -> bool:
        """Whether they are yet to be made, by what makes them block by block."""
        return self._arrays is None and self._lazy is not None and self._lazy[2] is None

    @property
    def tensors(self) -> list[bytes]:
        if self._tensors is None:
            arrays = self.arrays()
            self._tensors = [bytes(a) if isinstance(a, Blob) else ndarray_to_bytes(a) for a in arrays]
        return self._tensors

    def arrays(self) -> NamedArrays:
        """One array per tensor, in a new list. Raises `WireError` where `tensors` are not what `numpy.save` writes."""
        if not self.is_alone:
            raise StrategyError(
                "this update was added up with others by the worker that made it: it cannot be read by itself, left out or "
                'weighed otherwise. A strategy that does so says receives = "updates" in its class'
            )
        if self._arrays is None and self._lazy is not None:
            self._arrays = self._read()
        elif self._arrays is None:
            numbers = self.tensor_type == "numpy.ndarray"
            arrays = [bytes_to_ndarray(t) for t in self._tensors or []] if numbers else as_arrays(self._tensors)
            self._arrays = arrays if self._names is None else NamedArrays(arrays, self._names)
        return self._arrays.copy() if isinstance(self._arrays, NamedArrays) else NamedArrays(self._arrays)

    @property
    def names(self) -> tuple[str, ...]:
        """What the tensors are called; "0", "1", … where they have no names."""
        return self._lazy[0].names if self._arrays is None and self._lazy is not None else schema_of(self.arrays()).names

    def named_as(self, model: Schema) -> Parameters:
        """The same under the model's names, and in their order, where they have the same ones or none."""
        if len(self) != len(model) or self.names == model.names:
            return self
        return Parameters.of(named_as(self.arrays(), model.names))

    def copies(self) -> NamedArrays:
        """The same arrays, in memory of their own. What can be read again from a file is not kept here."""
        again = self._arrays is None and self._lazy is not None and self._lazy[2] is not None
        return self._read() if again else _copies(self.arrays())

    def _read(self) -> NamedArrays:
        assert self._lazy is not None
        params, begin = Params.empty(self._lazy[0]), 0
        for block in self._lazy[1]():
            params.buffer[begin : begin + len(block)] = np.frombuffer(block, np.uint8)
            begin += len(block)
        return params.arrays()

    def stream(self) -> tuple[Schema, Iterator[memoryview]]:
        """The schema, and the data bytes in layout order. Raises `WireError` for what cannot travel."""
        if self._arrays is None and self._lazy is not None:
            return self._lazy[0], self._lazy[1]()
        arrays = as_arrays(self.arrays())
        schema = schema_of(arrays)
        return schema, gather(schema, arrays, 0, schema.nbytes)

    def reader(self) -> tuple[Schema, Source]:
        """The schema, and the data bytes at random. Raises `WireError` for what cannot travel."""
        if self._arrays is None and self._lazy is not None and self._lazy[2] is not None:
            return self._lazy[0], self._lazy[2]
        params = Params.of(self.arrays())
        return params.schema, in_memory(params)

    def __len__(self) -> int:
        if self._arrays is not None:
            return len(self._arrays)
        return len(self._lazy[0]) if self._lazy else len(self._tensors or [])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parameters):
            return NotImplemented
        return self.tensor_type == other.tensor_type and self.tensors == other.tensors

    __hash__ = None  # type: ignore[assignment]  # compares by value, and may change

    def __repr__(self) -> str:
        return f"Parameters({len(self)} tensors, tensor_type={self.tensor_type!r})"

    def __reduce__(self) -> tuple[type[Parameters], tuple[list[bytes], str, tuple[str, ...]]]:
        return Parameters, (self.tensors, self.tensor_type, self.names)


def _copies(arrays: NDArrays) -> NamedArrays:
    """The same arrays in memory of their own, under the same names."""
    names = arrays.names if isinstance(arrays, NamedArrays) and arrays.are_named else None
    return NamedArrays([array.copy() for array in arrays], names)


GivenParameters = Parameters | Sequence[object] | Mapping[str, object]  # as people have them: a state_dict will do


def ndarray_to_bytes(ndarray: NDArray) -> bytes:
    """The bytes of `numpy.save`, without pickle."""
    file = io.BytesIO()
    np.save(file, ndarray, allow_pickle=False)
    return file.getvalue()


def bytes_to_ndarray(tensor: bytes) -> NDArray:
    """Reads what `ndarray_to_bytes` wrote; nothing else, and never a pickle. Raises `WireError`."""
    try:
        array: NDArray = np.load(io.BytesIO(tensor), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise WireError(f"a tensor of {len(tensor)} bytes is not what numpy.save writes: {error}") from None
    return array


def ndarrays_to_parameters(ndarrays: Sequence[object] | Mapping[str, object]) -> Parameters:
    """Parameters that hold these arrays, a list or by name (a `state_dict`), as they are now: copies.

    Raises `WireError` for what cannot travel.
    """
    return Parameters.of(_copies(as_arrays(ndarrays)))


def as_parameters(given: GivenParameters) -> Parameters:
    """Parameters as they are, or what `ndarrays_to_parameters` makes of a list or a mapping."""
    return given if isinstance(given, Parameters) else ndarrays_to_parameters(given)


def parameters_to_ndarrays(parameters: Parameters) -> NamedArrays:
    """The arrays of `parameters`, in order: copies, which may be changed in place. The list knows their names."""
    return parameters.copies()
