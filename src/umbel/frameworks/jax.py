"""JAX: any pytree of arrays, such as the variables of flax.linen, an Equinox module, or a dict. Knows no rounds.

    from umbel.frameworks import jax as umbel_jax

    client = umbel_jax.client(lambda: net.init(jax.random.key(0), x), train, test, data=load)

The arrays travel, named after their places: "params.Dense_0.kernel", "layers.0.weight". Functions, numbers and random
keys stay as they are. A model is a value: `train` returns the new one, or (model, metrics). Modules of flax.nnx are the
exception: they are trained in place. Functions may ask for `key`, which is the task's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from umbel.context import Context
from umbel.dialogue import Parameters
from umbel.frameworks.adapter import Adapter, load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.errors import ParametersNotReady
from umbel.frameworks.matching import Shapes, copied
from umbel.params import NDArray

with needs("jax"):
    import jax

__all__ = ["JaxAdapter", "adapter", "client", "load", "parameters_of", "statistics_of"]

_MODES = ("deterministic", "use_running_average")  # what `train()` and `eval()` of an nnx module set


class Leaf(NamedTuple):
    """An array of a model: where it is among the leaves, and whether a gradient changes it."""

    position: int
    array: jax.Array
    is_statistic: bool


class Memory(NamedTuple):
    """What a new nnx module has besides what travels: its modes, by the places of its parts, and its random state."""

    modes: dict[tuple[object, ...], dict[str, object]]
    random: dict[tuple[object, ...], jax.Array]


class JaxAdapter(Adapter[object]):
    """What JAX says about pytrees."""

    name = "jax"

    def shapes_of(self, model: object) -> Shapes:
        return {name: tuple(leaf.array.shape) for name, leaf in _leaves(model).items()}

    def arrays_of(self, model: object) -> dict[str, NDArray]:
        return copied({name: leaf.array for name, leaf in _leaves(model).items()})

    def place(self, model: object, arrays: Mapping[str, NDArray]) -> object:
        own = _leaves(model)
        values = {leaf.position: _like(leaf.array, arrays[name]) for name, leaf in own.items()}
        if (nnx := _nnx_of(model)) is not None:
            _update(nnx, model, {place: values[i] for i, (place, _) in enumerate(_variables(nnx, model)) if i in values})
            return model
        leaves, structure = jax.tree.flatten(model)
        return jax.tree.unflatten(structure, [values.get(i, leaf) for i, leaf in enumerate(leaves)])

    def statistics_of(self, model: object) -> list[str]:
        return [name for name, leaf in _leaves(model).items() if leaf.is_statistic]

    def trains_in_place(self, model: object) -> bool:
        return _nnx_of(model) is not None

    def is_model(self, value: object, like: object) -> bool:
        if value is like:
            return True
        return not isinstance(value, (int, float, str)) and [*_named(value)] == [*_named(like)]

    def remember(self, model: object) -> Memory | None:
        if (nnx := _nnx_of(model)) is None:
            return None
        modes = {
            place: {mode: getattr(part, mode) for mode in _MODES if hasattr(part, mode)}
            for place, part in nnx.iter_modules(model)
        }
        return Memory(modes, {place: value[...] for place, value in _random(nnx, model)})

    def renew(self, model: object, memory: object, seed: int | None) -> None:
        if (nnx := _nnx_of(model)) is None or not isinstance(memory, Memory):
            return
        for place, part in nnx.iter_modules(model):
            for mode, value in memory.modes.get(place, {}).items():
                setattr(part, mode, value)
        if seed is None:  # draws go on where they were
            return
        number = seed & 0xFFFFFFFF
        values = {
            place: jax.random.fold_in(value, number) if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key) else value
            for place, value in memory.random.items()
        }
        _update(nnx, model, values)

    def duplicate(self, model: object) -> object:
        nnx = _nnx_of(model)
        return model if nnx is None else nnx.clone(model)

    def extras(self, context: Context) -> Mapping[str, Callable[[], object]]:
        return {"key": context.jax_key}


adapter = JaxAdapter()


def client(
    model: object,
    train: Callable[..., object],
    test: Callable[..., object] | None = None,
    data: object = None,
) -> ModelClient[object]:
    """A client of this pytree, or of a function that makes one: see `ModelClient`.

    `train(model, data)` returns the new model, or (model, metrics); `test(model, data)` the loss, or (loss, metrics). What
    `jax.jit` has compiled is kept for all clients of a process where it stands outside of `train`.
    """
    return ModelClient(model, train, test, data, adapter=adapter)


def parameters_of(model: object) -> dict[str, NDArray]:
    """Copies of the arrays, by their places in the tree, with their dtypes.

    >>> parameters_of({"w": jax.numpy.ones(2), "layers": [jax.numpy.zeros(()), max]})
    {'layers.0': array(0., dtype=float32), 'w': array([1., 1.], dtype=float32)}
    """
    return adapter.arrays_of(model)


def load(model: object, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> object:
    """The model with these parameters: a new one, which has all else of the old; nnx modules are changed in place.

    Dtypes and devices are those of the model. Raises `ParametersMismatch` where names, number or shapes are others.

    >>> load({"w": jax.numpy.ones(2), "name": "line"}, [np.zeros(2)])
    {'name': 'line', 'w': Array([0., 0.], dtype=float32)}
    """
    return load_into(adapter, model, parameters)


def statistics_of(model: object) -> list[str]:
    """The names of what no gradient changes: the collection "batch_stats", nnx's BatchStat, Equinox's State, and integers.

    >>> statistics_of({"params": {"w": jax.numpy.ones(2)}, "batch_stats": {"mean": jax.numpy.ones(2)}})
    ['batch_stats.mean']
    """
    return adapter.statistics_of(model)


def _leaves(model: object) -> dict[str, Leaf]:
    """The arrays of a model. Raises where there are none."""
    leaves = _named(model)
    if leaves:
        return leaves
    name = type(model).__name__
    if any(parent.__module__.startswith("flax.linen") for parent in type(model).__mro__):
        raise ParametersNotReady(
            f"{name} is a flax.linen module, which has no parameters of its own; give its variables, in a function that "
            f"makes them: lambda: {name}(…).init(jax.random.key(0), batch)"
        )
    raise ParametersNotReady(f"model= is a {name} without arrays; give a pytree of arrays, or a function that makes one")


def _named(model: object) -> dict[str, Leaf]:
    named: dict[str, Leaf] = {}
    for position, (path, value, is_statistic) in enumerate(_places(model)):
        if not _travels(value, model):
            continue
        name = path or "array"
        if name in named:
            raise TypeError(f"two arrays of the model are called {name!r}; rename the key of a dict that has a dot")
        counts = not jax.numpy.issubdtype(value.dtype, jax.numpy.inexact)
        named[name] = Leaf(position, value, is_statistic or counts)
    return named


def _places(model: object) -> Iterator[tuple[str, jax.Array, bool]]:
    """All leaves, in order, with their names and whether they are statistics."""
    if (nnx := _nnx_of(model)) is not None:
        for place, variable in _variables(nnx, model):
            yield ".".join(map(str, place)), variable[...], isinstance(variable, nnx.BatchStat)
        return
    states = _states_in(model)
    for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        yield name, leaf, "batch_stats" in name.split(".") or any(path[: len(state)] == state for state in states)


def _travels(leaf: object, model: object) -> bool:
    if isinstance(leaf, np.ndarray):  # to Equinox a constant
        return leaf.dtype != object and not _comes_from(model, "equinox")
    return isinstance(leaf, jax.Array) and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _like(old: jax.Array, new: NDArray) -> jax.Array | NDArray:
    """These values with the dtype of the old ones, where they were."""
    if isinstance(old, np.ndarray):
        return new.astype(old.dtype)
    value = jax.numpy.array(new, dtype=old.dtype)
    return jax.device_put(value, old.sharding) if getattr(old, "committed", False) else value


def _states_in(model: object) -> list[tuple[object, ...]]:
    """Where Equinox keeps what is no parameter, such as BatchNorm's statistics."""
    equinox = sys.modules.get("equinox")
    if equinox is None:
        return []
    found, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda node: isinstance(node, equinox.nn.State))
    return [path for path, node in found if isinstance(node, equinox.nn.State)]


def _comes_from(model: object, package: str) -> bool:
    return any(parent.__module__.partition(".")[0] == package for parent in type(model).__mro__)


# flax.nnx: modules that are trained in place. What is imported is what the model's own class has imported.


def _nnx_of(model: object):  # type: ignore[no-untyped-def]  # a module of flax, where the model comes from it
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(model, nnx.Module) else None


def _variables(nnx, model: object):  # type: ignore[no-untyped-def]  # pairs of a place and an nnx.Variable
    return [(place, value) for place, value in nnx.to_flat_state(nnx.state(model)) if not isinstance(value, nnx.RngState)]


def _random(nnx, model: object):  # type: ignore[no-untyped-def]  # as above
    return [(place, value) for place, value in nnx.to_flat_state(nnx.state(model)) if isinstance(value, nnx.RngState)]


def _update(nnx, model: object, values: Mapping[tuple[object, ...], object]) -> None:  # type: ignore[no-untyped-def]  # as above
    state = [(place, old.replace(values[place])) for place, old in nnx.to_flat_state(nnx.state(model)) if place in values]
    nnx.update(model, nnx.from_flat_state(state))
