"""Keras 3: any model, compiled or not, on whichever backend. Knows no rounds.

    from umbel.frameworks import keras as umbel_keras

    client = umbel_keras.client(make_model, train, test, data=load)

`model.weights` travel, BatchNorm's moving averages among them, under their paths: "conv2d/kernel", "dense_1/bias". Keras
counts all layers that a process ever made ("dense_7"), so paths are counted anew here, in the model's order. What its
optimizer has summed up, its metrics and the seeds of its Dropout do not travel; each task begins with new ones.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from umbel.dialogue import Parameters
from umbel.foreign import to_numpy
from umbel.frameworks.adapter import Adapter, load_into, needs
from umbel.frameworks.base import ModelClient
from umbel.frameworks.errors import FrameworkMissing, ParametersNotReady
from umbel.frameworks.matching import Shapes, copied
from umbel.params import NDArray
from umbel.rng import key
from umbel.runtime.seeding import keep_generators

with needs("keras"):
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("tensorflow", "torch", "jax"):
            raise
        raise FrameworkMissing(
            f"Keras is to run on {error.name}, which is not installed: set KERAS_BACKEND to torch or jax, whichever is "
            "here, before Python starts",
            name=error.name,
        ) from None

__all__ = ["KerasAdapter", "adapter", "client", "load", "parameters_of", "statistics_of"]


class Memory(NamedTuple):
    """What a new model has besides what travels: the optimizer that it was compiled with, and what is in that."""

    optimizer: keras.Optimizer | None
    values: list[NDArray]


class KerasAdapter(Adapter[keras.Model]):
    """What Keras says about its models."""

    name = "keras"

    def shapes_of(self, model: keras.Model) -> Shapes:
        return {name: tuple(variable.shape) for name, variable in variables_of(model).items()}

    def arrays_of(self, model: keras.Model) -> dict[str, NDArray]:
        return copied(variables_of(model))

    def place(self, model: keras.Model, arrays: Mapping[str, NDArray]) -> keras.Model:
        for name, variable in variables_of(model).items():
            variable.assign(arrays[name])
        return model

    def statistics_of(self, model: keras.Model) -> list[str]:
        weights = {id(variable) for layer in model._flatten_layers() for variable in layer._trainable_variables}
        return [name for name, variable in variables_of(model).items() if id(variable) not in weights]

    def remember(self, model: keras.Model) -> Memory:
        _build_without_draws(model)
        optimizer = model.optimizer if model.compiled else None
        if optimizer is None:
            return Memory(None, [])
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        return Memory(optimizer, [np.array(to_numpy(variable)) for variable in optimizer.variables])

    def renew(self, model: keras.Model, memory: object, seed: int | None) -> None:
        assert isinstance(memory, Memory)
        if memory.optimizer is None and model.compiled:  # by `train`
            model.compiled, model.optimizer = False, None
        elif memory.optimizer is not None and memory.optimizer is model.optimizer:
            for variable, value in zip(memory.optimizer.variables, memory.values, strict=False):
                variable.assign(value)
            model.reset_metrics()
        if seed is not None:
            seeds = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
            for place, state in enumerate(seeds):
                state.assign(np.array([key(seed, "dropout", place) & 0x7FFFFFFF, 0]))
            _forget_global_seed()

    def is_model(self, value: object, like: keras.Model) -> bool:
        return isinstance(value, keras.Model)

    def count_examples(self, data: object) -> int | None:
        if isinstance(data, keras.utils.PyDataset) or type(data).__module__.startswith("tensorflow"):
            return None  # as long as it has batches
        return super().count_examples(data)

    def describe_train(self, model: keras.Model, returned: object) -> object:
        """`fit` returns a History: of each number the last."""
        history = returned.history if isinstance(returned, keras.callbacks.History) else returned
        if isinstance(history, Mapping):
            return {name: value[-1] if isinstance(value, list) and value else value for name, value in history.items()}
        return returned

    def describe_test(self, model: keras.Model, returned: object) -> object:
        """`evaluate` returns a list: its names are the model's."""
        if not isinstance(returned, list) or not model.compiled:
            return returned
        names = [*model.get_metrics_result()]
        return dict(zip(names, returned, strict=True)) if len(names) == len(returned) else returned


adapter = KerasAdapter()


def client(
    model: keras.Model | Callable[[], keras.Model],
    train: Callable[..., object],
    test: Callable[..., object] | None = None,
    data: object = None,
) -> ModelClient[keras.Model]:
    """A client of this model, or of a function that makes one: see `ModelClient`.

    `train(model, data)` may return what `fit` does, and `test(model, data)` what `evaluate` does. A model that is compiled
    where it is made stays compiled: a process makes its train function once, and its optimizer begins anew in each task.
    """
    return ModelClient(model, train, test, data, adapter=adapter)


def parameters_of(model: keras.Model) -> dict[str, NDArray]:
    """Copies of `model.weights`, by their paths, with their dtypes. Raises `ParametersNotReady` for one that is not built.

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    >>> {name: array.shape for name, array in parameters_of(model).items()}
    {'dense/kernel': (3, 2), 'dense/bias': (2,), 'dense_1/kernel': (2, 1), 'dense_1/bias': (1,)}
    """
    return adapter.arrays_of(model)


def load(model: keras.Model, parameters: Mapping[str, object] | Sequence[object] | Parameters) -> keras.Model:
    """Assigns parameters to the model's weights, and returns the model.

    Raises `ParametersMismatch` before anything is assigned where names, number or shapes are others.

    >>> model = load(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), [[[2.0]], [1.0]])
    >>> keras.ops.convert_to_numpy(model(np.array([[3.0]]))).tolist()
    [[7.0]]
    """
    return load_into(adapter, model, parameters)


def statistics_of(model: keras.Model) -> list[str]:
    """The paths of what no gradient changes, such as moving averages: `FedAvgM(averaged=statistics_of(model))`.

    >>> statistics_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()]))
    ['batch_normalization/moving_mean', 'batch_normalization/moving_variance']
    """
    return adapter.statistics_of(model)


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's own weights, by their paths, counted anew."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model= is a {type(model).__name__}; give a keras.Model, or a function that makes one")
    weights = model.weights
    if not weights or not model.built:
        raise ParametersNotReady(
            f"{model.name!r} has no weights yet; begin it with keras.Input(shape), or call model.build(shape)"
        )
    return dict(zip(_counted_anew(model.name, [variable.path for variable in weights]), weights, strict=True))


def _counted_anew(root: str, paths: Sequence[str]) -> list[str]:
    """Paths that depend on the model alone: layers of one name are counted from its beginning, below each layer.

    >>> _counted_anew("net_3", ["net_3/dense_7/kernel", "net_3/dense_7/bias", "net_3/dense_8/kernel"])
    ['dense/kernel', 'dense/bias', 'dense_1/kernel']
    """
    split = [path.split("/") for path in paths]
    if all(parts[0] == root and len(parts) > 1 for parts in split):
        split = [parts[1:] for parts in split]
    renamed: dict[tuple[str, ...], str] = {}  # by the old path
    taken: set[str] = set()
    found: list[str] = []
    for parts in split:
        above = ""
        for depth in range(1, len(parts)):
            old = tuple(parts[:depth])
            if old not in renamed:
                renamed[old] = _free(above + re.sub(r"_\d+$", "", old[-1]), taken)
            above = renamed[old] + "/"
        found.append(_free(above + parts[-1], taken))
    return found


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of name_1, name_2, … that is not taken."""
    names = [name, *(f"{name}_{count}" for count in range(1, len(taken) + 1))]
    free = next(one for one in names if one not in taken)
    taken.add(free)
    return free


def _build_without_draws(model: keras.Model) -> None:
    """The first `fit` of a process looks at a batch to build metrics and loss: its shuffle must not move the others."""
    build = getattr(model, "_symbolic_build", None)
    if build is None or hasattr(build, "__wrapped__"):
        return

    @functools.wraps(build)
    def build_apart(*arguments: object, **options: object) -> object:
        with keep_generators():
            return build(*arguments, **options)

    model._symbolic_build = build_apart


def _forget_global_seed() -> None:
    """What `keras.random` draws without a seed begins anew, from Python's generator, which is seeded before each task."""
    with contextlib.suppress(ImportError):
        from keras.src.backend.common import global_state

        global_state.set_global_attribute("global_seed_generator", None)
