"""The classes that users' clients derive from, and how a client is made of whatever they hand in. Knows no task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import NoneType

from umbel.context import Context
from umbel.dialogue import (
    Code,
    Config,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Metrics,
    Parameters,
    Scalar,
    Status,
)
from umbel.errors import Rejected, WireError
from umbel.params import NamedArrays, NDArrays, as_arrays, named_as

__all__ = ["Client", "ClientFn", "FromNumPy", "NumPyClient", "client_maker", "make_client", "travelling"]


class Client:
    """A client that speaks in requests and responses. Most people want `NumPyClient`.

    A method that is not overridden answers with the status "not implemented".
    """

    context: Context | None = None

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Answers with what the server may know of this client."""
        return GetPropertiesRes(_missing(Code.GET_PROPERTIES_NOT_IMPLEMENTED, "get_properties"), {})

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        """Answers with the current local parameters."""
        return GetParametersRes(_missing(Code.GET_PARAMETERS_NOT_IMPLEMENTED, "get_parameters"), Parameters([]))

    def fit(self, ins: FitIns) -> FitRes:
        """Trains the given parameters on local data and answers with the trained ones."""
        return FitRes(_missing(Code.FIT_NOT_IMPLEMENTED, "fit"), Parameters([]), 0, {})

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        """Answers with the loss of the given parameters on local data."""
        return EvaluateRes(_missing(Code.EVALUATE_NOT_IMPLEMENTED, "evaluate"), 0.0, 0, {})

    def to_client(self) -> Client:
        """Returns itself."""
        return self


Returned = Sequence[object] | Mapping[str, object]  # arrays, of numpy or of the framework at hand


class NumPyClient:
    """A client whose parameters are numpy arrays. Override what you need; every method is optional.

    - `get_parameters(config)` → the local parameters, a list of arrays or a mapping of names to arrays (a `state_dict`);
      asked of one client when the strategy has no initial parameters.
    - `fit(parameters, config)` → (parameters, number of examples trained on, metrics); the parameters are a list in
      `get_parameters` order, or a mapping in any order
    - `evaluate(parameters, config)` → (loss, number of examples evaluated on, metrics)
    - `get_properties(config)` → dict of scalars

    Arrays that come in are yours, writable, and keep their dtype. They are a list that knows their names:
    `parameters["fc.weight"]`, `parameters.names`, `dict(parameters)`. Arrays that go out are numpy's, or of torch (with
    gradients, on any device), JAX, MLX, TensorFlow or MXNet. Metrics are dicts of name to bool, bytes, float, int or
    str (numpy scalars are taken too); the number of examples is any integer ≥ 0.

    What a strategy has beside the model, such as a control variate, comes in `self.context.parts`, and what answers it goes
    by `self.context.send`.
    """

    context: Context | None = None
    stands_for_many = False  # whether it is, besides, a function of a context that gives the client there

    def get_properties(self, config: Config) -> dict[str, Scalar]:
        return {}

    def get_parameters(self, config: Config) -> Returned:
        return []

    def fit(self, parameters: NamedArrays, config: Config) -> tuple[Returned, int, Metrics]:
        return [], 0, {}

    def evaluate(self, parameters: NamedArrays, config: Config) -> tuple[float, int, Metrics]:
        return 0.0, 0, {}

    def to_client(self) -> Client:
        """This client as a `Client`; `start_client` takes either."""
        return FromNumPy(self)


class FromNumPy(Client):
    """Translates requests into calls of a `NumPyClient`; a method it does not override stays "not implemented"."""

    def __init__(self, numpy_client: NumPyClient) -> None:
        self.numpy_client = numpy_client
        self.context = numpy_client.context

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        if not self.has("get_properties"):
            return super().get_properties(ins)
        return GetPropertiesRes(_OK, self.numpy_client.get_properties(ins.config))

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        if not self.has("get_parameters"):
            return super().get_parameters(ins)
        arrays = self.numpy_client.get_parameters(ins.config)
        return GetParametersRes(_OK, Parameters.of(travelling("get_parameters", arrays)))

    def fit(self, ins: FitIns) -> FitRes:
        if not self.has("fit"):
            return super().fit(ins)
        arrays, num_examples, metrics = self.fitted(ins.parameters.arrays(), ins.config)
        return FitRes(_OK, Parameters.of(arrays), num_examples, metrics)  # type: ignore[arg-type]  # checked in run_task

    def fitted(self, arrays: NamedArrays, config: Config) -> tuple[NDArrays, object, object]:
        """What `fit` says, without a request and a response around it."""
        names = arrays.names  # the list is the client's own from now on
        returned = self.numpy_client.fit(arrays, config)
        trained, num_examples, metrics = _triple("fit", returned, "(parameters, num_examples, metrics)")
        return named_as(travelling("fit", trained), names), num_examples, metrics

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        if not self.has("evaluate"):
            return super().evaluate(ins)
        returned = self.numpy_client.evaluate(ins.parameters.arrays(), ins.config)
        return EvaluateRes(_OK, *_triple("evaluate", returned, "(loss, num_examples, metrics)"))  # type: ignore[arg-type]  # checked in run_task

    def has(self, method: str) -> bool:
        mine = getattr(type(self.numpy_client), method, None)
        return mine is not None and mine is not getattr(NumPyClient, method)


ClientFn = Callable[[Context], Client | NumPyClient] | Callable[[str], Client | NumPyClient]


def make_client(source: Client | NumPyClient | ClientFn, context: Context) -> Client:
    """A `Client` from whatever people hand in: an instance of either class, or a function of a context or of a cid."""
    return client_maker(source)(context)


def client_maker(source: object) -> Callable[[Context], Client]:
    """How to make a `Client`, found out once for many.

    The classic `client_fn(cid: str)` is recognised by its parameter's name or annotation. Raises `TypeError`, at once for
    what can make no client, and when it is used for a function that returns something else.
    """
    made = not isinstance(source, type) and hasattr(source, "to_client")
    if made and not getattr(source, "stands_for_many", False):
        return lambda context: _with_context(source, context)
    if not callable(source):
        raise TypeError(f"a client is a NumPyClient, a Client or a function that makes one; got {type(source).__name__}")
    first = next(iter(inspect.signature(source).parameters.values()), None)
    if first is None:
        raise TypeError("client_fn takes no argument; it is given a Context, or the client's name as cid: str")
    make = source
    if first.name == "cid" or first.annotation in (str, "str"):
        return lambda context: _with_context(make(context.node_id), context)
    return lambda context: _with_context(make(context), context)


def _with_context(made: object, context: Context) -> Client:
    if isinstance(made, type) or not hasattr(made, "to_client"):
        shown = f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
        raise TypeError(f"client_fn returned {shown}; return a NumPyClient or a Client, made")
    client: object = made.to_client()
    if not isinstance(client, Client):
        raise TypeError(f"to_client() returned a {type(client).__name__}; it returns a Client")
    client.context = context
    if isinstance(client, FromNumPy) and type(client.numpy_client.context) in (Context, NoneType):
        client.numpy_client.context = context  # unless it has something of its own there, such as a device
    return client


_OK = Status(Code.OK, "Success")


def _missing(code: Code, method: str) -> Status:
    return Status(code, f"the client does not implement {method}()")


def _triple(method: str, returned: object, form: str) -> tuple[object, object, object]:
    if not isinstance(returned, (tuple, list)) or len(returned) != 3:
        size = f" of length {len(returned)}" if isinstance(returned, (tuple, list)) else ""
        raise Rejected(f"{method}() returned a {type(returned).__name__}{size}; return the 3-tuple {form}")
    return returned[0], returned[1], returned[2]


def travelling(method: str, arrays: object) -> NDArrays:
    """What a client's method returned, as arrays. Raises `Rejected` where they cannot travel."""
    try:
        return as_arrays(arrays)
    except WireError as error:
        raise Rejected(f"{method}() returned parameters that cannot travel: {error}") from None
