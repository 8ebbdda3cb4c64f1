"""A model with people's own `train` and `test` as a client, and what a framework has to say for that. Knows no framework.

An `Adapter` (adapter.py) is a framework's part: how a model's tensors are read and written, and what else a model remembers.
`ModelClient` is the part that all share: whose data, which arguments, what came back. A process makes the model once
(workshop.py) and uses it for every client in turn, so that what is compiled stays compiled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Self, TypeVar

from umbel.context import Context
from umbel.dialogue import Config, Metrics
from umbel.frameworks.adapter import Adapter, load_into
from umbel.frameworks.calling import NOTHING, Call, Tested, Trained, read_test, read_train
from umbel.frameworks.data import check_data, make_data, makes_data, number_of, share_of
from umbel.frameworks.errors import ParametersNotReady
from umbel.frameworks.matching import match
from umbel.frameworks.personal import Personal
from umbel.frameworks.workshop import Workshop, seeded
from umbel.params import NamedArrays, NDArray
from umbel.runtime.seeding import keep_generators
from umbel.strategies.base import Strategy
from umbel.training import NumPyClient

__all__ = ["ModelClient"]

M = TypeVar("M")  # a framework's model


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
        check_data(data)
        self._personal = Personal(personal)
        self._data = NOTHING if data is None else data
        self._train = Call.of("train", train, self._data)
        self._test = None if test is None else Call.of("test", test, self._data)
        self._workshop = Workshop(model, adapter, self._personal)
        self._own: object = None

    def __call__(self, context: Context) -> ModelClient[M]:
        """The client of this context: one object stands for many, and they share the model of their process."""
        client = copy.copy(self)
        client.context = context
        return client

    def with_data(self, data: object) -> Self:
        """The same client with other data. Raises `TypeError` where its functions take none."""
        check_data(data)
        client = copy.copy(self)
        client._data = NOTHING if data is None else data
        client._train = Call.of("train", self._train.function, client._data)
        client._test = None if self._test is None else Call.of("test", self._test.function, client._data)
        client._own = None
        return client

    def with_personal(self, personal: str | Sequence[str]) -> Self:
        """The same client that keeps what these patterns match to itself, with a model of its own."""
        client = copy.copy(self)
        client._personal = Personal(personal)
        client._workshop = self._workshop.keeping(client._personal)
        return client

    @property
    def data(self) -> object:
        """What it was given; None where it has none."""
        return None if self._data is NOTHING else self._data

    def get_parameters(self, config: Config) -> dict[str, NDArray]:
        adapter, model = self._workshop.new_model(self._here)
        adapter.prepare(model, lambda: share_of(self._data_for(self._here), self._train.name), None)
        return self._travelling(adapter.arrays_of(model))

    def fit(self, parameters: NamedArrays, config: Config) -> tuple[dict[str, NDArray], int, Metrics]:
        adapter, model = self._workshop.model_for(self._here)
        call, data = self._prepared(self._train, adapter, parameters, config)
        model = self._loaded(adapter, model, data, parameters)
        adapter.begin(model)
        returned = adapter.describe_train(model, call(model))
        said = read_train(returned, lambda value: adapter.is_model(value, model))
        if said.model is None and not adapter.trains_in_place(model):
            said_back = "nothing" if returned is None else f"a {type(returned).__name__}"
            raise TypeError(
                f"train() returned {said_back}; a model of {adapter.name} is a value that training leaves as it is: "
                "return the new model, or (model, metrics)"
            )
        count = self._count("train", adapter, data, said)
        trained: M = model if said.model is None else said.model  # type: ignore[assignment]  # is_model has said so
        arrays = match(adapter.shapes_of(model), adapter.arrays_of(trained))
        self._personal.keep(arrays, self._here.state)
        return self._travelling(arrays), count, said.metrics

    def evaluate(self, parameters: NamedArrays, config: Config) -> tuple[float, int, Metrics]:
        if self._test is None:
            return math.nan, 0, {}  # a number that is missing
        adapter, model = self._workshop.model_for(self._here)
        call, data = self._prepared(self._test, adapter, parameters, config)
        model = self._loaded(adapter, model, data, parameters)
        said = read_test(adapter.describe_test(model, call(model)))
        return said.loss, self._count("test", adapter, data, said), said.metrics

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
            arrays = adapter.arrays_of(model)
        except ParametersNotReady:
            if not adapter.takes_form_from_data:
                raise
            return None
        if not arrays:
            raise ValueError(f"this {type(model).__name__} has no tensors: there is nothing that could be trained together")
        return self._travelling(arrays)

    def around(self, strategy: Strategy, context: Context) -> Strategy:
        """The strategy of a run that `new_parameters` has nothing for: as it is, or one that asks all clients first."""
        return strategy

    def model_maker(self, seed: int) -> Callable[[NamedArrays], M]:
        """How a model is made of parameters of a run with this seed: `history.model` of a simulation."""
        owner = Context("owner", seed=seed)

        def make_model(parameters: NamedArrays) -> M:
            with keep_generators():
                return self.load(parameters, owner)

        return make_model

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

    def _count(self, name: str, adapter: Adapter[M], data: object, said: Trained | Tested) -> int:
        if said.num_examples is not None:
            return said.num_examples
        count = None if data is NOTHING else adapter.count_examples(data)
        if count is None:
            shown = "without data=" if data is NOTHING else f"from a {type(data).__name__}"
            remedy = "return it from train: (num_examples, metrics)" if name == "train" else "give data that have a length"
            raise TypeError(f"how many examples {name}() used cannot be told {shown}; {remedy}")
        return count
