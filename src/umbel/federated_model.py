"""`fl.federate`: a model, its own `train` and `test`, and whose data: simulated, served, and joined by one program.

Puts together what the front doors take. Knows no rounds, no transports and no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from inspect import Parameter, signature
from typing import Protocol, runtime_checkable

from umbel.callbacks.base import Callback
from umbel.client.app import start_client
from umbel.config import ServerConfig
from umbel.context import Context
from umbel.dialogue import Parameters, ndarrays_to_parameters
from umbel.frameworks.adapter import Adapter, adapter_for
from umbel.frameworks.base import ModelClient
from umbel.frameworks.data import makes_data, number_of
from umbel.frameworks.workshop import makes_model
from umbel.keywords import checked
from umbel.runtime.observers.history import History
from umbel.runtime.seeding import keep_generators
from umbel.strategies.algorithm import Algorithm
from umbel.strategies.base import Strategy
from umbel.suggest import unknown_keyword
from umbel.training import NumPyClient

__all__ = ["FederatedModel", "federate"]

SAME = object()  # the data that `federate` was given
_OTHERWISE = {  # keywords of the other front doors, and what they are here
    "num_clients": "clients=",
    "clients_ids": "clients=",
    "num_rounds": "rounds=",
    "config": "rounds= and round_timeout=",
    "server_address": "the address as the first argument",
    "client_fn": "nothing: model, train and test make the clients",
    "client": "nothing: model, train and test make the client, and clients= is how many there are",
}


@runtime_checkable
class Partitions(Protocol):
    """A data set that is divided by client, such as a `FederatedDataset`."""

    @property
    def partitioners(self) -> Mapping[str, object]: ...
    def load_partition(self, partition_id: int, split: str) -> object: ...


def federate(
    model: object,
    train: Callable[..., object] | None = None,
    test: Callable[..., object] | None = None,
    data: object = None,
    *,
    personal: str | Sequence[str] = (),
    adapter: Adapter[object] | None = None,
) -> FederatedModel:
    """A model that many owners of data train together, by the functions that train it for one.

        fed = fl.federate(Net, train, test, data=load)
        history = fed.simulate(clients=100, rounds=10)     # on this machine; history.model is the trained Net
        fed.serve("0.0.0.0:8080", rounds=10)               # or: a server,
        fed.join("server:8080", data=mine)                 # and each owner of data

    - `model`: a model of PyTorch, Lightning, Transformers, Keras, JAX, scikit-learn, MLX or MXNet, or a
      class or function that makes one; or a client of `umbel.frameworks`, which has all but `personal` already. The first
      parameters are its own, made with the run's seed: no client is asked.
    - `train(model, data)`, `test(model, data)`: more arguments come by name, such as `round`, `config` or the keys that the
      strategy sends. `train` returns nothing, a number of examples, metrics, or (num_examples, metrics); a new model first
      where models are values. `test` returns the loss, (loss, metrics), or a dict with "loss". Models that know how they
      are trained need none: Lightning's, those of Transformers, scikit-learn's.
    - `data`: a function of the client's number, or of its `context`; a `FederatedDataset`, whose partition of that number is
      the client's (of each divided split, under its name, where there are several); a list with the data of each client;
      or, for `join`, what this client holds.
    - `personal`: tensors whose names match stay at their client and are no part of the global model: "head.*", or a list of
      patterns. A client over the network keeps them while its process runs, and begins with new ones after a restart.
    - `adapter`: what knows the model, where that is none of these frameworks' (`umbel.frameworks.Adapter`).

    Raises `TypeError` for a model that no adapter knows, and for functions that cannot be called so.
    """
    return FederatedModel(model, train, test, data, personal=personal, adapter=adapter)


class FederatedModel:
    """What `federate` makes. Each method takes the keywords of the front door behind it, too, and those of the strategy."""

    def __init__(
        self,
        model: object,
        train: Callable[..., object] | None = None,
        test: Callable[..., object] | None = None,
        data: object = None,
        *,
        personal: str | Sequence[str] = (),
        adapter: Adapter[object] | None = None,
    ) -> None:
        client = _client_of(model, train, test, _by_client(data), adapter)
        self._data = client.data if data is None else data
        self._client = client.with_personal(personal) if personal else client

    @checked
    def simulate(
        self,
        *,
        clients: Sequence[str] | int | None = None,
        rounds: int = 1,
        strategy: str | Strategy | Algorithm = "fedavg",
        round_timeout: float | None = None,
        **options: object,
    ) -> History:
        """Simulates so many `clients`, or those of these names, on this machine, and returns the `History`.

        `clients` may be left out where the data say how many there are. `strategy` is a name ("fedavg", "fedadam", "krum"),
        with its keywords beside it (`fraction_fit=0.1`), or an object. `options` are those of `start_simulation`, such as
        `backend=`, `seed=`, `store=`, `callbacks=`.
        """
        from umbel.simulation.app import start_simulation

        keywords, options = _sort(self.simulate, start_simulation, strategy, options)
        who: dict[str, object] = {"num_clients": clients} if isinstance(clients, int) else {"clients_ids": clients}
        if clients is None:
            who = {"num_clients": _count_clients(self._data)}
        wanted = clients if isinstance(clients, int) else len(clients or ())
        if isinstance(self._data, list) and wanted > len(self._data):
            raise ValueError(f"data= is a list for {len(self._data)} clients, and clients= says {wanted}")
        if self._data is not None and not makes_data(_by_client(self._data)):
            raise ValueError(
                f"data= is one {type(self._data).__name__}, and every client would train on it; give a function of the "
                "client's number, a FederatedDataset, or a list with the data of each client"
            )
        config = ServerConfig(num_rounds=rounds, round_timeout=round_timeout)
        return self._run(start_simulation, strategy, keywords, config, {**who, "client_fn": self._client, **options})

    @checked
    def serve(
        self,
        address: str = "[::]:8080",
        *,
        rounds: int = 1,
        strategy: str | Strategy | Algorithm = "fedavg",
        round_timeout: float | None = None,
        **options: object,
    ) -> History:
        """Serves the model at `address` to those who join, and returns the `History`.

        `options` are those of `start_server`, such as `certificates=`, `store=`, `callbacks=`, and of the strategy.
        """
        from umbel.server.app import start_server

        keywords, options = _sort(self.serve, start_server, strategy, options)
        config = ServerConfig(num_rounds=rounds, round_timeout=round_timeout)
        make_model, callbacks = self._client.model_maker(_seed_in(options)), options.get("callbacks", ())
        for callback in callbacks if isinstance(callbacks, (list, tuple)) else ():  # a simulation knows its client by itself
            if isinstance(callback, Callback):
                callback.make_model = make_model
        history = self._run(start_server, strategy, keywords, config, {"server_address": address, **options})
        history.keep(make_model=make_model)
        return history

    @checked
    def join(self, address: str, *, data: object = SAME, **options: object) -> None:
        """Takes part in the run of the server at `address` with this client's `data`, until the run is over.

        Without `data` it takes its share of what `federate` was given: by `client_id="3"`, for the client with number 3.
        `options` are those of `start_client`, such as `root_certificates=`.
        """
        _, options = _sort(self.join, start_client, None, options)
        mine = _by_client(self._data) if data is SAME else data
        if makes_data(mine) and "context" not in signature(mine).parameters:  # type: ignore[arg-type]  # it is a function
            try:
                number_of(Context(str(options.get("client_id", ""))))
            except ValueError:
                raise ValueError(
                    "data= is a function of the client's number, and this client has none: write join(…, client_id='3'), or "
                    "join(…, data=what it holds)"
                ) from None
        start_client(server_address=address, client=self._client.with_data(mine), **options)  # type: ignore[arg-type]  # checked there

    def _run(
        self,
        start: Callable[..., History],
        strategy: str | Strategy | Algorithm,
        keywords: dict[str, object],
        config: ServerConfig,
        options: dict[str, object],
    ) -> History:
        from umbel.server.by_name import strategy_named

        owner = Context("owner", seed=_seed_in(options))
        with keep_generators():
            first = self._client.new_parameters(owner)
        initial = None if first is None else ndarrays_to_parameters(first)
        if isinstance(strategy, str):
            strategy = strategy_named(strategy, {"initial_parameters": initial, **keywords})
        if first is None and isinstance(strategy, Strategy) and getattr(strategy, "initial_parameters", None) is None:
            strategy = self._client.around(strategy, owner)
        with _beginning_with(strategy, initial) as begins:
            return start(strategy=begins, config=config, **options)


def _seed_in(options: Mapping[str, object]) -> int:
    """The run's seed; what is none is refused by the front door."""
    seed = options.get("seed", 0)
    return seed if isinstance(seed, int) else 0


def _client_of(
    model: object,
    train: Callable[..., object] | None,
    test: Callable[..., object] | None,
    data: object,
    adapter: Adapter[object] | None,
) -> ModelClient[object]:
    """The client of all these, as the model's framework makes it."""
    if isinstance(model, ModelClient):
        return model if data is None else model.with_data(data)
    if isinstance(model, NumPyClient):  # such as a booster's, which is grown and not averaged
        raise TypeError(
            f"model= is a {type(model).__name__}, which has no model to begin with; give it to "
            "start_simulation(client_fn=…) and start_client(client=…) as it is"
        )
    is_function = not isinstance(model, type) and makes_model(model)
    if adapter is not None or (is_function and train is not None):  # which framework it is of shows once it makes a model
        if train is None:
            raise _needs_train(adapter)
        return ModelClient(model, train, test, data, adapter=adapter)
    known = adapter_for(model() if is_function and callable(model) else model)
    client: Callable[..., ModelClient[object]] = getattr(
        import_module(f"umbel.frameworks.{known.name}"), "client", ModelClient
    )
    parameter = signature(client).parameters.get("train")
    if train is None and parameter is not None and parameter.default is Parameter.empty:
        raise _needs_train(known)
    if train is not None and parameter is None:  # the framework trains by itself, and here somebody does it otherwise
        return ModelClient(model, train, test, data, adapter=known)
    functions = {name: each for name, each in (("train", train), ("test", test)) if each is not None}
    return client(model, data=data, **functions)


def _needs_train(adapter: Adapter[object] | None) -> TypeError:
    of = "" if adapter is None else f" of {adapter.name}"
    return TypeError(f"a model{of} needs train=, the function that trains it: def train(model, data)")


@contextmanager
def _beginning_with(strategy: Strategy | Algorithm, initial: Parameters | None) -> Iterator[Strategy | Algorithm]:
    """The strategy; inside, one that says nothing of its own about the first parameters has these, where there are any."""
    if isinstance(strategy, Algorithm):
        silent = initial is not None and strategy.initial_parameters is None
        yield replace(strategy, initial_parameters=initial) if silent else strategy
        return
    silent = initial is not None and getattr(strategy, "initial_parameters", initial) is None
    if silent:
        strategy.initial_parameters = initial  # type: ignore[attr-defined]  # it has that attribute
    try:
        yield strategy
    finally:
        if silent:
            strategy.initial_parameters = None  # type: ignore[attr-defined]  # it is the user's, and may run again


def _sort(
    method: Callable[..., object], front: Callable[..., object], strategy: object, options: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """The keywords of the strategy, and the options of the front door. Raises `TypeError` for what neither has."""
    from umbel.server.by_name import strategy_keywords

    name, own = method.__name__, {*signature(method).parameters} - {"options"}
    known = {*signature(front).parameters} - {*_OTHERWISE, "strategy", "server"}
    of_strategy: frozenset[str] = frozenset()
    if strategy is not None:
        of_strategy = strategy_keywords(strategy if isinstance(strategy, str) else "fedavg")
    keywords: dict[str, object] = {}
    rest: dict[str, object] = {}
    for keyword, value in options.items():
        if keyword in known:
            rest[keyword] = value
        elif keyword in _OTHERWISE:
            raise TypeError(f"{name}() has no keyword {keyword!r}; here it is {_OTHERWISE[keyword]}")
        elif keyword not in of_strategy:
            raise TypeError(unknown_keyword(name, keyword, sorted(own | known | of_strategy)))
        elif not isinstance(strategy, str):
            made = type(strategy).__name__
            raise TypeError(f"{keyword}= is the strategy's, and strategy= is an object: write {made}({keyword}=…)")
        else:
            keywords[keyword] = value
    return keywords, rest


class _Shares:
    """A list with the data of each client, as a function of the client's number."""

    def __init__(self, shares: list[object]) -> None:
        self._shares = shares

    def __call__(self, number: int) -> object:
        if number >= len(self._shares):
            raise ValueError(f"data= is a list for {len(self._shares)} clients, and has nothing for number {number}")
        return self._shares[number]


class _Partitions:
    """A divided data set as a function of the client's number."""

    def __init__(self, dataset: Partitions) -> None:
        self._dataset = dataset

    def __call__(self, number: int) -> object:
        parts = {split: self._dataset.load_partition(number, split) for split in self._dataset.partitioners}
        return next(iter(parts.values())) if len(parts) == 1 else parts


def _by_client(data: object) -> object:
    """Data that know whose they are as a function of the client's number; others as they are."""
    if isinstance(data, list):
        return _Shares(data)
    return _Partitions(data) if isinstance(data, Partitions) else data


def _count_clients(data: object) -> int:
    """How many the data are for. Raises `TypeError` where they do not say."""
    if isinstance(data, list):
        return len(data)
    if isinstance(data, Partitions):
        counts = {getattr(one, "num_partitions", 0) for one in data.partitioners.values()}
        if len(counts) == 1:
            return int(counts.pop())
    raise TypeError("simulate() needs clients=, how many there are: the data do not say")
