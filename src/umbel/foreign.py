"""Arrays of other libraries as numpy's, without importing one: a value that is there has brought its library.

bfloat16 stays bfloat16. Knows how torch, JAX, MLX, TensorFlow, MXNet and scipy show their values; knows no names or models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from umbel.errors import WireError

__all__ = ["to_numpy"]



def to_numpy(value: object) -> Any:
    """The value as an array, row-major, sharing memory where it can; what is not a library's array is read by numpy.

    Raises `WireError` for what has no dense, real form (the text completes "array 3 is …"), and whatever numpy raises.
    """
    for library, read in _READERS.items():
        if type(value).__module__.partition(".")[0] == library or _derives(value, library):
            return np.asarray(read(value), order="C")
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        raise WireError("a pair of a name and an array; make a mapping of the pairs: dict(pairs)")
    return np.asarray(value, order="C")


def _derives(value: object, library: str) -> bool:
    """Whether a class of somebody's own derives from the library's, such as a torch.nn.Parameter with attributes."""
    return library in sys.modules and any(base.__module__.partition(".")[0] == library for base in type(value).__mro__[1:-1])


def _torch(value: Any) -> object:
    if not hasattr(value, "detach"):
        return _refuse_module(value)
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()  # spread over devices by DTensor or FSDP
    if str(value.layout) != "torch.strided":
        raise WireError(f"a {str(value.layout).removeprefix('torch.')} tensor; give tensor.to_dense()")
    if value.is_quantized:
        raise WireError("a quantized tensor; give tensor.dequantize()")
    if value.device.type == "meta":
        raise WireError("a tensor on the device meta, which has no values; load the model's weights first")
    plain = value.detach().cpu().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    if plain.is_complex():
        raise _complex(name)
    kind = getattr(ml_dtypes, name, None)
    if kind is None or hasattr(np, name):
        return plain.numpy()
    torch = sys.modules["torch"]
    bits = torch.uint8 if plain.element_size() == 1 else torch.int16
    return plain.contiguous().view(bits).numpy().view(kind)


def _jax(value: Any) -> object:
    kind = str(getattr(value, "dtype", ""))
    if kind.startswith("key<"):
        raise WireError(f"a key for random numbers ({kind}), which is no parameter; leave it out")
    return np.asarray(value)


def _mlx(value: Any) -> object:
    if not hasattr(value, "dtype"):
        return _refuse_module(value)
    name = str(value.dtype).rpartition(".")[2]
    if name.startswith("complex"):
        raise _complex(name)
    if name == "bfloat16":  # numpy cannot read it through the buffer protocol
        return np.array(value.view(sys.modules["mlx.core"].uint16)).view(ml_dtypes.bfloat16)
    return np.array(value)


def _tensorflow(value: Any) -> object:
    if type(value).__name__ in ("SparseTensor", "IndexedSlices", "RaggedTensor"):
        raise WireError(f"a {type(value).__name__}; give a dense tensor: tf.convert_to_tensor or tf.sparse.to_dense")
    if not hasattr(value, "numpy"):
        return _refuse_module(value)
    return value.numpy()


def _mxnet(value: Any) -> object:
    if hasattr(value, "list_data"):
        value = value.data()  # a Parameter
    if not hasattr(value, "asnumpy"):
        return _refuse_module(value)
    if getattr(value, "stype", "default") != "default":
        raise WireError(f"stored as {value.stype}; give array.tostype('default')")
    array = value.asnumpy()
    return array.view(ml_dtypes.bfloat16) if array.dtype.names == ("bfloat16",) else array  # numpy's way to have it


def _keras(value: Any) -> object:
    return to_numpy(value.value) if hasattr(value, "value") else _refuse_module(value)


def _scipy(value: Any) -> object:
    if hasattr(value, "toarray"):
        raise WireError(f"a sparse {type(value).__name__}; give matrix.toarray()")
    return value


def _cupy(value: Any) -> object:
    return value.get() if hasattr(value, "get") else value


def _refuse_module(value: object) -> object:
    if hasattr(value, "state_dict"):
        raise WireError(f"a whole {type(value).__name__}; give its state_dict()")
    return value


def _complex(name: str) -> WireError:
    return WireError(f"of dtype {name}, which cannot travel; send the real and the imaginary part as two arrays")


_READERS: dict[str, Callable[[Any], object]] = {
    "torch": _torch,
    "jaxlib": _jax,
    "jax": _jax,
    "mlx": _mlx,
    "tensorflow": _tensorflow,
    "mxnet": _mxnet,
    "keras": _keras,
    "scipy": _scipy,
    "cupy": _cupy,
}
