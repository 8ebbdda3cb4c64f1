"""PyTorch: any `nn.Module`, as its users have it, compiled or wrapped. Knows no rounds.

    from umbel.frameworks import torch as umbel_torch

    client = umbel_torch.client(Net, train, test, data=load)

The tensors of the `state_dict` travel, under their names and in its order: weights, frozen ones too (a client that makes
its model anew could have others), and persistent buffers, such as BatchNorm's statistics. What wrappers add to names
("module.", "_orig_mod.") is left out, so that a compiled model and its plain one are alike. Tied weights travel once, under
the first of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from umbel.dialogue import Parameters
from umbel.frameworks.adapter import Adapter, load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.errors import ParametersNotReady
from umbel.frameworks.matching import Shapes, copied
from umbel.params import NDArray

with needs("torch"):
    import torch
    from torch import nn

__all__ = ["TorchAdapter", "adapter", "client", "load", "parameters_of", "statistics_of"]


class Memory(NamedTuple):
    """What a new module is, besides what travels: its modes, what is frozen, and the buffers that no state_dict has."""

    training: list[bool]
    frozen: list[bool]
    buffers: dict[str, torch.Tensor]


class TorchAdapter(Adapter[nn.Module]):
    """What PyTorch says about its modules."""

    name = "torch"

    def shapes_of(self, model: nn.Module) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors_of(model).items()}

    def arrays_of(self, model: nn.Module) -> dict[str, NDArray]:
        return copied(self.tensors_of(model))

    def place(self, model: nn.Module, arrays: Mapping[str, NDArray]) -> nn.Module:
        tensors = self.tensors_of(model)
        with torch.no_grad():
            for name, array in arrays.items():
                tensors[name].copy_(to_tensor(array))
        return model

    def statistics_of(self, model: nn.Module) -> list[str]:
        plain = unwrapped(model)
        weights = {id(weight) for weight in plain.parameters()}
        return [name for name, tensor in self.tensors_of(model).items() if id(tensor) not in weights]

    def remember(self, model: nn.Module) -> Memory:
        plain = unwrapped(model)
        kept = {id(tensor) for tensor in plain.state_dict(keep_vars=True).values()}
        buffers = {name: buffer.clone() for name, buffer in plain.named_buffers() if id(buffer) not in kept}
        return Memory(
            [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()], buffers
        )

    def renew(self, model: nn.Module, memory: object, seed: int | None) -> None:
        assert isinstance(memory, Memory)
        for module, training in zip(model.modules(), memory.training, strict=False):
            module.training = training
        for parameter, learns in zip(model.parameters(), memory.frozen, strict=False):
            parameter.requires_grad_(learns)
            parameter.grad = None
        buffers = dict(unwrapped(model).named_buffers())
        with torch.no_grad():
            for name, value in memory.buffers.items():
                buffers[name].copy_(value)

    def is_model(self, value: object, like: nn.Module) -> bool:
        return isinstance(value, nn.Module)

    def tensors_of(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """The tensors that travel, by name. They are the model's own."""
        if not isinstance(model, nn.Module):
            raise TypeError(f"model= is a {type(model).__name__}; give an nn.Module, or a class or function that makes one")
        tensors: dict[str, torch.Tensor] = {}
        seen: set[int] = set()
        for name, tensor in unwrapped(model).state_dict(keep_vars=True).items():
            if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
                raise ParametersNotReady(
                    f"{name!r} has no shape yet, since its layer is lazy: run the model once on a batch before you give it, "
                    "in a function that makes it where it is made anew"
                )
            if isinstance(tensor, torch.Tensor) and id(tensor) not in seen:  # "_extra_state" may be anything
                seen.add(id(tensor))
                tensors[_plain(name)] = tensor
        return tensors


adapter = TorchAdapter()


def client(
    model: nn.Module | type[nn.Module] | Callable[[], nn.Module],
    train: Callable[..., object],
    test: Callable[..., object] | None = None,
    data: object = None,
) -> ModelClient[nn.Module]:
    """A client of this module, trained by `train(model, data)` and tested by `test(model, data)`: see `ModelClient`.

    It goes to `start_client(client=...)` and to `start_simulation(client_fn=...)`.
    """
    return ModelClient(model, train, test, data, adapter=adapter)


def parameters_of(model: nn.Module) -> dict[str, NDArray]:
    """Copies of what the state_dict has, by name, in its order, with their dtypes; bfloat16 as that of ml_dtypes.

    Raises `ParametersNotReady` for lazy modules that have seen no data.

    >>> {name: array.shape for name, array in parameters_of(nn.Linear(3, 2)).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    return adapter.arrays_of(model)


def load(model: nn.Module, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> nn.Module:
    """Writes parameters into the module in place, and returns it; its dtypes and devices stay.

    Raises `ParametersMismatch` before anything is written where names, number or shapes are others.

    >>> load(nn.Linear(1, 1), {"weight": [[2.0]], "bias": [1.0]})(torch.tensor([[3.0]])).tolist()
    [[7.0]]
    """
    return load_into(adapter, model, parameters)


def statistics_of(model: nn.Module) -> list[str]:
    """The names of what is no weight, such as running means and counters: `FedAvgM(averaged=statistics_of(net))`.

    >>> statistics_of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    ['1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    return adapter.statistics_of(model)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(model, attribute, None)
        wraps = attribute == "_orig_mod" or type(model).__module__.startswith("torch.nn.parallel")
        if wraps and isinstance(inner, nn.Module):
            return unwrapped(inner)
    return model


def to_tensor(array: NDArray) -> torch.Tensor:
    """A tensor that shares memory with the array where it can. bfloat16 and the like go over as bits: torch reads none."""
    if not hasattr(ml_dtypes, array.dtype.name):
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    bits = np.ascontiguousarray(array).view(np.uint8 if array.dtype.itemsize == 1 else np.int16)
    return torch.from_numpy(bits).view(getattr(torch, array.dtype.name))


def _plain(name: str) -> str:
    """Without what inner wrappers have added: parts of a module may be compiled by themselves.

    >>> _plain("features._orig_mod.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")
