"""A model with people's own `train` and `test` as a client, and what a framework has to say for that. Knows no framework.

An `Adapter` is a framework's part: how a model's tensors are read and written, and what else a model remembers.
`ModelClient` is the part that all share: whose data, which arguments, what came back. A process makes the model once and
uses it for every client in turn, so that what is compiled stays compiled; before each task it is as it was when new.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Generic, Protocol, TypeVar

from umbel.context import Context
from umbel.exchange import Config, Metrics, Parameters
from umbel.frameworks.calling import NOTHING, Call, Trained, read_test, read_train
from umbel.frameworks.data import count_examples, make_data, makes_data, number_of, share_of
from umbel.frameworks.errors import FrameworkMissing, ParametersNotReady
from umbel.frameworks.matching import Shapes, match
from umbel.frameworks.personal import Personal
from umbel.params import NamedArrays, NDArray
from umbel.rng import key
from umbel.runtime.seeding import seed_generators
from umbel.training import NumPyClient

__all__ = ["Adapter", "Given", "ModelClient", "adapter_for", "load_into", "needs"]

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

    def describe_test(self, model: M, returned: object) -> object:
        """What `test` returned, in the form that all share, where the framework has another of its own."""
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
    found: Adapter[object] = import_module(f"umbel.frameworks.{name}").adapter
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


class ModelClient(NumPyClient, Generic[M]):
    """A client made of a model and people's own functions.

    - `model`: a model, or a class or function that makes one. A simulation leaves a model that it is given as it is; over
      the network it is trained in place, where the framework trains in place.
    - `train(model, data)`, `test(model, data)`: more arguments by name: the config's keys, `config`, `context`, `number`
      (the client's), `parameters` (as they came), `round`.
    - `train` returns nothing, a number of examples, metrics, or (num_examples, metrics); its model first where it has a new
      one. `test` returns the loss, (loss, metrics), or metrics with "loss".
    - `data`: what the functions take, or a function of the client's number (or of its `context`) that gives it; a dict with
      "train" and "test" gives each function its own.
    - `personal`: tensors whose names match ("head.*", or a list of patterns) stay with their client, in `context.state`:
      they are not sent, and are no part of the model that is trained together. Until a client has trained, its own are those
      of the new model.

    Raises `TypeError` for functions that cannot be called with these, and, where the model is there or can be made,
    `ValueError` for a pattern that matches nothing.
    """

    stands_for_many = True

    def __init__(
        self,
        model: object,
        train: Callable[..., object],
        test: Callable[..., object] | None = None,
        data: object = None,
        *,
        personal: str | Sequence[str] = (),
        adapter: Adapter[M] | None = None,
    ) -> None:
        self._personal = Personal(personal)
        self._data = NOTHING if data is None else data
        self._train = Call.of("train", train, self._data)
        self._test = None if test is None else Call.of("test", test, self._data)
        self._workshop = _Workshop(model, adapter, self._personal)
        self._own: object = None

    def __call__(self, context: Context) -> ModelClient[M]:
        """The client of this context: one object stands for many, and they share the model of their process."""
        client = copy.copy(self)
        client.context = context
        return client

    def get_parameters(self, config: Config) -> dict[str, NDArray]:
        adapter, model = self._workshop.new_model(self._here)
        adapter.prepare(model, lambda: share_of(self._data_for(self._here), self._train.name), None)
        return self._travelling(adapter.arrays_of(model))

    def fit(self, parameters: NamedArrays, config: Config) -> tuple[dict[str, NDArray], int, Metrics]:
        adapter, model = self._workshop.model_for(self._here)
        call, data = self._prepared(self._train, adapter, parameters, config)
        model = self._loaded(adapter, model, data, parameters)
        adapter.begin(model)
        returned = call(model)
        said = read_train(returned, lambda value: adapter.is_model(value, model))
        if said.model is None and not adapter.trains_in_place(model):
            said_back = "nothing" if returned is None else f"a {type(returned).__name__}"
            raise TypeError(
                f"train() returned {said_back}; a model of {adapter.name} is a value that training leaves as it is: "
                "return the new model, or (model, metrics)"
            )
        trained: M = model if said.model is None else said.model  # type: ignore[assignment]  # is_model has said so
        count, arrays = self._count("train", adapter, data, said), adapter.arrays_of(trained)
        self._personal.keep(arrays, self._here.state)
        return self._travelling(arrays), count, said.metrics

    def evaluate(self, parameters: NamedArrays, config: Config) -> tuple[float, int, Metrics]:
        if self._test is None:
            return math.nan, 0, {}  # a number that is missing
        adapter, model = self._workshop.model_for(self._here)
        call, data = self._prepared(self._test, adapter, parameters, config)
        model = self._loaded(adapter, model, data, parameters)
        loss, metrics = read_test(adapter.describe_test(model, call(model)))
        return loss, self._count("test", adapter, data, None), metrics

    def _loaded(self, adapter: Adapter[M], model: M, data: object, parameters: NamedArrays) -> M:
        adapter.prepare(model, lambda: data, parameters)
        self._workshop.model = load_into(adapter, model, self._received(adapter, model, parameters))
        return self._workshop.model

    def new_parameters(self, context: Context) -> dict[str, NDArray] | None:
        """What travels of a new model, by name, as it is made for this context: what a run begins with.

        None where the model takes its form from the clients' data: then one of them is asked.
        """
        adapter, model = self._workshop.new_model(context)
        self._workshop.model = None  # a client makes its own
        try:
            return self._travelling(adapter.arrays_of(model))
        except ParametersNotReady:
            if not adapter.takes_form_from_data:
                raise
            return None

    def load(self, parameters: Mapping[str, object] | Sequence[object], context: Context) -> M:
        """A model of the caller's own, new, as it is made for this context, but for these parameters.

        Raises `ParametersMismatch`.
        """
        adapter, model = self._workshop.new_model(replace(context, node_config={"partition-id": 0}))
        self._workshop.model = None
        adapter.prepare(model, lambda: NOTHING, parameters)
        return load_into(adapter, model, self._received(adapter, model, parameters))

    def _received(
        self, adapter: Adapter[M], model: M, parameters: Mapping[str, object] | Sequence[object]
    ) -> Mapping[str, object] | Sequence[object]:
        """What the model is loaded with: what has come, and what the client keeps to itself."""
        if not self._personal:
            return parameters
        return self._personal.join(adapter.shapes_of(model), parameters, self._here.state, self._workshop.first)

    def _travelling(self, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
        """What is sent, of what the model has."""
        return {name: array for name, array in arrays.items() if name not in self._personal}

    @property
    def _here(self) -> Context:
        return Context("client") if self.context is None else self.context

    def _prepared(
        self, call: Call, adapter: Adapter[M], parameters: NamedArrays, config: Config
    ) -> tuple[Callable[[object], object], object]:
        """The function of a model alone, and the data in it. All that may be wrong before training is found here."""
        context = self._here
        values = {
            "config": lambda: config,
            "context": lambda: context,
            "number": lambda: number_of(context),
            "parameters": lambda: parameters,
            "round": lambda: context.round,
            **adapter.extras(context),
        }
        data = share_of(self._data_for(context), call.name)
        return call.bound(data, values, config), data

    def _data_for(self, context: Context) -> object:
        if not makes_data(self._data):
            return self._data
        if self._own is None:  # made once for a client over the network, and anew for a task that is simulated
            with seeded(context, "data", context.node_id):  # without the round: a split at random is the same in each
                self._own = make_data(self._data, context)
        return self._own

    def _count(self, name: str, adapter: Adapter[M], data: object, said: Trained | None) -> int:
        if said is not None and said.num_examples is not None:
            return said.num_examples
        count = None if data is NOTHING else adapter.count_examples(data)
        if count is None:
            shown = "without data=" if data is NOTHING else f"from a {type(data).__name__}"
            remedy = "return it from train: (num_examples, metrics)" if said is not None else "give data that have a length"
            raise TypeError(f"how many examples {name}() used cannot be told {shown}; {remedy}")
        return count


class _Workshop(Generic[M]):
    """The model of this process, which all its clients use in turn. A pickle has what people gave, not what became of it."""

    def __init__(self, source: object, adapter: Adapter[M] | None, personal: Personal) -> None:
        self._personal = personal
        self._source = source  # a model, or what makes one
        self._makes = isinstance(source, type) or (callable(source) and _is_no_model(source))
        self._adapter = adapter
        self._memory: object = None
        self._used = False
        self.model: M | None = None
        self.first: dict[str, NDArray] = {}  # what clients keep to themselves, as it is in a new model
        if adapter is None and (isinstance(source, type) or not self._makes):
            self._adapter = adapter_for(source)  # type: ignore[assignment]  # that of this source
        if self._adapter is not None and not self._makes:
            self._adapter.check(source)  # type: ignore[arg-type]  # raises for what is no model of this framework
            if personal:
                personal.check(self._adapter.shapes_of(source))  # type: ignore[arg-type]  # the same

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "model": None, "_memory": None, "_used": False, "first": {}}

    def model_for(self, context: Context) -> tuple[Adapter[M], M]:
        """The model, in all that does not travel as it was when it was new."""
        if self.model is None:
            self.model, self._used = self._make(context), False
            self._adapter = self._adapter or adapter_for(self.model)  # type: ignore[assignment]  # that of this model
            self._memory = self._known.remember(self.model)
            self._look_at_names(self.model)
        seed = None if context.seed is None else key(context.seed, "client", context.node_id, context.round)
        self._known.renew(self.model, self._memory, seed)
        self._used = True
        return self._known, self.model

    def _look_at_names(self, model: M) -> None:
        if self._personal:
            self._personal.check(self._known.shapes_of(model))
            arrays = self._known.arrays_of(model)
            self.first = {name: array for name, array in arrays.items() if name in self._personal}

    def new_model(self, context: Context) -> tuple[Adapter[M], M]:
        """The same; what travels has its first values too, where the model is made here."""
        if self._used and self._makes:
            self.model = None
        return self.model_for(context)

    def _make(self, context: Context) -> M:
        if self._makes:
            with seeded(context, "model"):  # the same in every process, whichever client comes first
                made: M = self._source()  # type: ignore[operator]  # it is callable
            return made
        model: M = self._source  # type: ignore[assignment]  # that of the adapter
        return self._known.duplicate(model) if "partition-id" in context.node_config else model

    @property
    def _known(self) -> Adapter[M]:
        assert self._adapter is not None
        return self._adapter


@contextlib.contextmanager
def seeded(context: Context, *path: str) -> Iterator[None]:
    """Inside, draws have this address in the run; afterwards that of the client's task, from its beginning."""
    if context.seed is None:
        yield
        return
    seed_generators(context.seed, *path)
    yield
    seed_generators(context.seed, "client", context.node_id, context.round)


def _is_no_model(value: object) -> bool:
    try:
        adapter_for(value)
    except TypeError:
        return True
    return False
