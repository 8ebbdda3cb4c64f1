"""MLX: any `mlx.nn.Module`, on whatever device is MLX's default. Knows no rounds.

    from umbel.frameworks import mlx as umbel_mlx

    client = umbel_mlx.client(Net, train, test, data=load)

All parameters travel, frozen ones and BatchNorm's statistics too, named after their places in the tree, as MLX names them:
"layers.0.weight".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np

from umbel.frameworks.adapter import Adapter, Given, load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.matching import Shapes, copied
from umbel.params import NDArray

with needs("mlx"):
    import mlx.core
    import mlx.nn
    import mlx.utils

__all__ = ["MLXAdapter", "adapter", "client", "load", "parameters_of", "statistics_of"]

_STATISTICS = ("running_mean", "running_var")
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Memory(NamedTuple):
    """What a new module has beside its parameters, for each of its parts: whether it trains, and what is frozen in it."""

    training: list[bool]
    frozen: list[set[str]]


class MLXAdapter(Adapter[mlx.nn.Module]):
    """What MLX says about its modules."""

    name = "mlx"

    def shapes_of(self, model: mlx.nn.Module) -> Shapes:
        return {name: tuple(array.shape) for name, array in _arrays(model).items()}

    def arrays_of(self, model: mlx.nn.Module) -> dict[str, NDArray]:
        return copied(_arrays(model))

    def place(self, model: mlx.nn.Module, arrays: Mapping[str, NDArray]) -> mlx.nn.Module:
        present = _arrays(model)
        made = [(name, to_mlx(array).astype(present[name].dtype)) for name, array in arrays.items()]
        model.update(mlx.utils.tree_unflatten(made))
        mlx.core.eval(model.parameters())
        return model

    def statistics_of(self, model: mlx.nn.Module) -> list[str]:
        return [name for name in _arrays(model) if name.rpartition(".")[2] in _STATISTICS]

    def remember(self, model: mlx.nn.Module) -> Memory:
        parts = model.modules()
        return Memory([part.training for part in parts], [set(part._no_grad) for part in parts])

    def renew(self, model: mlx.nn.Module, memory: object, seed: int | None) -> None:
        assert isinstance(memory, Memory)
        for part, training, frozen in zip(model.modules(), memory.training, memory.frozen, strict=True):
            part._training, part._no_grad = training, set(frozen)


adapter = MLXAdapter()


def client(
    model: mlx.nn.Module | type[mlx.nn.Module] | Callable[[], mlx.nn.Module],
    train: Callable[..., object],
    test: Callable[..., object] | None = None,
    data: object = None,
) -> ModelClient[mlx.nn.Module]:
    """A client of this module, trained by `train(model, data)` and tested by `test(model, data)`: see `ModelClient`.

    It goes to `start_client(client=...)` and to `start_simulation(client_fn=...)`.
    """
    return ModelClient(model, train, test, data, adapter=adapter)


def parameters_of(model: mlx.nn.Module) -> dict[str, NDArray]:
    """Copies of all parameters, by name, with their dtypes; bfloat16 as that of ml_dtypes.

    >>> {name: array.shape for name, array in parameters_of(mlx.nn.Linear(3, 2)).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    return adapter.arrays_of(model)


def load(model: mlx.nn.Module, parameters: Given) -> mlx.nn.Module:
    """Writes parameters into the module in place, and returns it; its dtypes stay.

    Raises `ParametersMismatch` before anything is written where names, number or shapes are others.

    >>> load(mlx.nn.Linear(1, 1), {"weight": [[2.0]], "bias": [1.0]})(mlx.core.array([[3.0]])).tolist()
    [[7.0]]
    """
    return load_into(adapter, model, parameters)


def statistics_of(model: mlx.nn.Module) -> list[str]:
    """The names of running means and variances: `FedAvgM(averaged=statistics_of(net))`.

    >>> statistics_of(mlx.nn.Sequential(mlx.nn.Linear(3, 2), mlx.nn.BatchNorm(2)))
    ['layers.1.running_mean', 'layers.1.running_var']
    """
    return adapter.statistics_of(model)


def to_mlx(array: NDArray) -> mlx.core.array:
    """A copy of a numpy array; bfloat16 goes over as its bits."""
    if array.dtype == _BFLOAT16:
        return mlx.core.array(np.ascontiguousarray(array).view(np.uint16)).view(mlx.core.bfloat16)
    return mlx.core.array(array)


def _arrays(model: mlx.nn.Module) -> dict[str, mlx.core.array]:
    """The parameters that travel, by name. They are the model's own."""
    if not isinstance(model, mlx.nn.Module):
        raise TypeError(f"model= is a {type(model).__name__}; give an mlx.nn.Module, or a class or function that makes one")
    return dict(mlx.utils.tree_flatten(model.parameters()))
