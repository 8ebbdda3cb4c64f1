"""Arrays to the tensors of a model, by their names, or by their places where they have none. Knows no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from umbel.dialogue import Parameters
from umbel.errors import WireError
from umbel.foreign import to_numpy
from umbel.frameworks.errors import ParametersMismatch
from umbel.named import NamedArrays, NDArray, are_numbers
from umbel.params import as_arrays

__all__ = ["Shapes", "copied", "match"]

Shapes = Mapping[str, tuple[int, ...]]  # a model's tensors, in its order


def copied(tensors: Mapping[str, object]) -> dict[str, NDArray]:
    """Copies of a framework's tensors as arrays, under the same names. Raises `WireError` that names what cannot travel."""
    arrays: dict[str, NDArray] = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = np.array(to_numpy(tensor))
        except WireError as error:
            raise WireError(f"tensor {name!r} is {error}") from None
    return arrays


def match(shapes: Shapes, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> dict[str, NDArray]:
    """Arrays for every tensor of `shapes`, in its order: by name from a mapping or a list that has `names`, else by place.

    Raises `ParametersMismatch` that names what is missing, what is left over, and which shapes differ.

    >>> match({"w": (2,), "b": ()}, {"b": 1.0, "w": [1, 2]})["w"].tolist()
    [1, 2]
    >>> match({"w": (2,)}, {"v": [1, 2]})
    Traceback (most recent call last):
    umbel.frameworks.errors.ParametersMismatch: the model has no 'v', and 'w' is missing; it has 'w'
    """
    if isinstance(parameters, Parameters):
        parameters = parameters.arrays()
    values = as_arrays(parameters)
    if isinstance(values, NamedArrays) and values.are_named and not are_numbers(values.names):
        found = dict(values.items())
    elif len(values) == len(shapes):
        found = dict(zip(shapes, values, strict=True))
    else:
        raise ParametersMismatch(f"{len(values)} arrays came, the model has {len(shapes)}: {_some(shapes)}")
    missing, odd = [name for name in shapes if name not in found], [name for name in found if name not in shapes]
    if missing or odd:
        parts = [f"the model has no {_some(odd)}"] * bool(odd) + [f"{_some(missing)} is missing"] * bool(missing)
        raise ParametersMismatch(f"{', and '.join(parts)}; it has {_some(shapes)}")
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ParametersMismatch(f"{name!r} has shape {found[name].shape}, in the model it has {shape}")
    return {name: found[name] for name in shapes}


def _some(names: Sequence[str] | Shapes) -> str:
    """The first few of many names."""
    first = [repr(name) for name in names][:5]
    return ", ".join(first) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if first else "no tensors"
