"""What a framework has to say about its models, and how the one is found that knows a model. Knows no framework."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol, TypeVar

from umbel.context import Context
from umbel.dialogue import Parameters
from umbel.frameworks.data import count_examples
from umbel.frameworks.errors import FrameworkMissing
from umbel.frameworks.matching import Shapes, match
from umbel.params import NDArray

__all__ = ["Adapter", "Given", "adapter_for", "load_into", "needs"]

M = TypeVar("M")  # a framework's model
Given = Mapping[str, object] | Sequence[object] | Parameters

# Where a class comes from, by the first part of its module's name, and the file here that knows it.
_ADAPTERS = {
    "torch": "torch",
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "lightning_fabric": "lightning",
    "transformers": "transformers",
    "peft": "transformers",
    "keras": "keras",
    "jax": "jax",
    "jaxlib": "jax",
    "flax": "jax",
    "equinox": "jax",
    "haiku": "jax",
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "mlx": "mlx",
    "mxnet": "mxnet",
}


class Adapter(Protocol[M]):
    """What a framework says about its models. Derive from it; one object, `adapter`, in the framework's file."""

    name: str
    takes_form_from_data: bool = False  # whether `prepare` makes tensors of models that have seen no data

    def shapes_of(self, model: M) -> Shapes:
        """The tensors that travel, in their order. Raises `ParametersNotReady` where the framework has not made them yet."""
        ...

    def arrays_of(self, model: M) -> dict[str, NDArray]:
        """Copies of the tensors that travel, by name, in their order, with the dtypes that they have."""
        ...

    def place(self, model: M, arrays: Mapping[str, NDArray]) -> M:
        """The model with these values, names and shapes being right: in place where the framework does."""
        ...

    def check(self, model: M) -> None:
        """Raises for what is no model, or can have no tensors as it is."""
        self.shapes_of(model)

    def prepare(self, model: M, data: Callable[[], object], parameters: Given | None) -> None:
        """Makes tensors that the framework has not made yet, in place: from what came, or from data where nothing has."""
        return

    def begin(self, model: M) -> None:
        """What is to happen to a model that has its values before it trains, in place."""
        return

    def statistics_of(self, model: M) -> list[str]:
        """The names of those that no gradient changes, such as running means: for `averaged=` of server optimizers."""
        return []

    def remember(self, model: M) -> object:
        """What of a new model does not travel, and training changes."""
        return None

    def renew(self, model: M, memory: object, seed: int | None) -> None:
        """Puts back what `remember` remembered; where there is a seed, seeds the generators that the model itself has."""

    def duplicate(self, model: M) -> M:
        """A model of its own with the same values. Raises whatever copying raises."""
        return copy.deepcopy(model)

    def trains_in_place(self, model: M) -> bool:
        """Whether `train` changes the model that it is given; otherwise it returns a new one."""
        return True

    def is_model(self, value: object, like: M) -> bool:
        """Whether what `train` returned is a model, and not something said about it."""
        return value is like

    def count_examples(self, data: object) -> int | None:
        """How many there are, where it can be told."""
        return count_examples(data)

    def describe_train(self, model: M, returned: object) -> object:
        """What `train` returned, in the form that all share, where the framework has another of its own."""
        return returned

    def describe_test(self, model: M, returned: object) -> object:
        """The same for `test`."""
        return returned

    def extras(self, context: Context) -> Mapping[str, Callable[[], object]]:
        """More arguments that functions may ask for by name, such as JAX's `key`."""
        return {}


def adapter_for(model: object) -> Adapter[object]:
    """The adapter for a model, or for the class of one, by the modules that its class and its parents come from.

    Imports no framework that is not there already. Raises `TypeError` that names the frameworks where none is found.

    """
    cls = model if isinstance(model, type) else type(model)
    for parent in cls.__mro__:
        name = _ADAPTERS.get(parent.__module__.partition(".")[0])
        if name is not None:
            return _adapter(name)
    jax = None if isinstance(model, type) else sys.modules.get("jax")
    if jax is not None and any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model)):
        return _adapter("jax")  # a dict of arrays, or a class that has registered itself
    known = ", ".join(sorted(set(_ADAPTERS.values())))
    raise TypeError(
        f"{cls.__name__} comes from no framework that umbel.frameworks knows: {known}. Write a NumPyClient, with "
        "get_parameters, fit and evaluate"
    )


def _adapter(name: str) -> Adapter[object]:
    found: Adapter[object] | None = getattr(import_module(f"umbel.frameworks.{name}"), "adapter", None)
    if found is None:  # boosters: trees are added, and nothing is averaged
        bagging = {"xgboost": "FedXgbBagging", "lightgbm": "FedLgbBagging"}.get(name, "a strategy that adds trees")
        raise TypeError(
            f"a booster is grown, and not averaged: make its clients with umbel.frameworks.{name}.client(params, …) and "
            f"start them with start_simulation(client_fn=…) or start_client(client=…), and strategy={bagging}()"
        )
    return found


@contextlib.contextmanager
def needs(package: str, extra: str | None = None) -> Iterator[None]:
    """Around a framework's import: raises `FrameworkMissing` with what to install where it is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise
        remedy = f"pip install 'umbel[{extra or package}]'"
        raise FrameworkMissing(f"{package} is not installed: {remedy}", name=package) from None


def load_into(adapter: Adapter[M], model: M, parameters: Given) -> M:
    """The model with these parameters: by name from a mapping, by place from a list. Raises `ParametersMismatch`.

    Everything is checked before anything is written.
    """
    return adapter.place(model, match(adapter.shapes_of(model), parameters))
