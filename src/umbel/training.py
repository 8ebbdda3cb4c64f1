"""The client's side of a task: the classes that users derive from, and `run_task`, the only code that calls them.

Knows arrays and user code; knows no sockets and no rounds.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import os
from bdb import BdbQuit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import NamedTuple

from umbel.accidents import describe, format_traceback, is_an_end
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
    as_text,
    plain_scalar,
    scalars,
)
from umbel.errors import ClientFailed, Rejected, WireError
from umbel.params import NamedArrays, NDArrays, Params, as_arrays, named_as, schema_of
from umbel.rounds.messages import Failure, FailureKind, Kind
from umbel.secret import Secret
from umbel.sent import take_sent
from umbel.transforms import Applied, Site, chain_of, whose
from umbel.update import MODEL, NOTHING, Update
from umbel.wire import Schema, short

__all__ = ["Answer", "Client", "ClientFn", "Encoding", "NumPyClient", "accident", "client_maker", "make_client", "run_task"]

Memory = dict[str, dict[str, object]]  # what transforms remember at a client, by their names

LONGEST = 2000  # characters of what is said about a task that failed


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
        return _FromNumPy(self)


class _FromNumPy(Client):
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
        return GetParametersRes(_OK, Parameters.of(_travelling("get_parameters", arrays)))

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
        return named_as(_travelling("fit", trained), names), num_examples, metrics

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
    if isinstance(client, _FromNumPy) and type(client.numpy_client.context) in (Context, NoneType):
        client.numpy_client.context = context  # unless it has something of its own there, such as a device
    return client


@dataclass(slots=True)
class Answer:
    """What a client's code answered, made uniform: plain Python scalars, and arrays that can travel.

    Where transforms have been applied, the arrays are the codes, and `memory` is what the client keeps of it once the server
    has taken the update, by the name of the transform.
    """

    arrays: NDArrays = field(default_factory=list)
    num_examples: int = 0
    loss: float = 0.0
    metrics: Metrics = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        """Of the arrays."""
        return schema_of(self.arrays)


class Encoding(NamedTuple):
    """What it takes to make of an answer to a fit task what travels: the parts that the task has beside the model, and what
    its transforms need: their names, what the client was given, what it remembers, and where it is.

    `base` stays what it is while the client trains. `seed` is None for a client without a lasting name.
    """

    transforms: Sequence[Applied]
    base: Params
    memory: Memory
    seed: int | None
    client: str
    round: int
    secret: Callable[[], Secret] = Secret.new
    beside: Mapping[str, Schema] = NOTHING


def run_task(
    client: Client | Callable[[], Client],
    kind: Kind,
    arrays: NDArrays,
    config: Mapping[str, object],
    encoding: Encoding | None = None,
) -> Answer | Failure:
    """Does one task. Whatever the user's code does wrong comes back as a `Failure`; nothing is raised.

    `client` may be made for the task; making it is part of it. `arrays` become the client's own. With `encoding` the answer
    is what travels of what `fit` returns, and of what it sends beside that by its context. Only what is to end more than the
    task passes through: Ctrl-C, and what `umbel.accidents` names beside it.
    """
    process = os.getpid()
    try:
        made = client if isinstance(client, Client) else client()
        if made.context is not None:
            made.context.sent = {}
        given = arrays if isinstance(arrays, NamedArrays) else NamedArrays(arrays)
        answer = _run(made, kind, given, scalars(config))
        sent = {} if made.context is None else made.context.sent
        if encoding is None and sent:
            take_sent(sent, NOTHING)
        return answer if encoding is None else _encoded(answer, take_sent(sent, encoding.beside), encoding)
    except Rejected as error:
        return Failure(FailureKind.REJECTED, str(error)[:LONGEST])
    except ClientFailed as error:
        failed = FailureKind.EMPTY if isinstance(error, _NoParameters) else FailureKind.RAISED
        return Failure(failed, as_text(error)[:LONGEST])
    except BaseException as error:  # user code raises what it likes; all of it is reported to the server
        if is_an_end(error, process):
            if isinstance(error, BdbQuit):  # somebody at a debugger's prompt has had enough
                raise KeyboardInterrupt from None
            raise
        return accident(kind, error)


def accident(kind: Kind, error: BaseException) -> Failure:
    """What user code has raised in a task, as a failure that says whose it is."""
    half = whose(error)
    broken = half is not None and isinstance(error, ValueError) and str(error).startswith(half)  # says so itself
    return Failure(
        FailureKind.RAISED, str(error)[:LONGEST] if broken else describe(half or kind, error), format_traceback(error)
    )


def _run(client: Client, kind: Kind, arrays: NamedArrays, config: Config) -> Answer:
    if kind is Kind.FIT and isinstance(client, _FromNumPy) and client.has("fit"):  # saves a simulated task 25 µs
        trained, num_examples, metrics = client.fitted(arrays, config)
        return Answer(trained, _count("fit", num_examples), metrics=_scalars("fit", metrics))
    names, parameters = arrays.names, Parameters.of(arrays)
    match kind:
        case Kind.FIT:
            fitted = client.fit(FitIns(parameters, config))
            _expect_ok(fitted.status)
            return Answer(
                arrays=named_as(_travelling("fit", fitted.parameters.arrays()), names),
                num_examples=_count("fit", fitted.num_examples),
                metrics=_scalars("fit", fitted.metrics),
            )
        case Kind.EVALUATE:
            evaluated = client.evaluate(EvaluateIns(parameters, config))
            _expect_ok(evaluated.status)
            return Answer(
                loss=_loss(evaluated.loss),
                num_examples=_count("evaluate", evaluated.num_examples),
                metrics=_scalars("evaluate", evaluated.metrics),
            )
        case Kind.PROPERTIES:
            properties = client.get_properties(GetPropertiesIns(config))
            _expect_ok(properties.status)
            return Answer(metrics=_scalars("get_properties", properties.properties))
        case Kind.PARAMETERS:
            initial = client.get_parameters(GetParametersIns(config))
            if initial.status.code == Code.GET_PARAMETERS_NOT_IMPLEMENTED and _implements_anything(client):
                raise _NoParameters(f"{initial.status.message}; implement it, or {_GIVE_THEM}")
            _expect_ok(initial.status)
            own = _travelling("get_parameters", initial.parameters.arrays())
            if not own:
                raise _NoParameters(f"get_parameters() returned no arrays; implement it, or {_GIVE_THEM}")
            return Answer(arrays=own)


def _encoded(answer: Answer, beside: Mapping[str, NDArrays], encoding: Encoding) -> Answer:
    """What travels of an answer to a fit task, and what the client remembers of it."""
    memory = {name: dict(kept) for name, kept in encoding.memory.items()}
    chain = chain_of(encoding.transforms)
    sites = {
        applied.name: Site(
            applied.name,
            applied.facts,
            memory.setdefault(applied.name, {}),
            encoding.seed,
            encoding.client,
            encoding.round,
            encoding.secret,
        )
        for applied in encoding.transforms
    }
    update = Update({MODEL: answer.arrays, **beside}, answer.num_examples, answer.metrics)
    travelling, layout = chain.encode(update, encoding.base, lambda link: sites[link.name], encoding.beside)
    return Answer(
        NamedArrays(layout.joined(travelling), layout.names),
        _count("encode", travelling.num_examples),
        metrics=_scalars("encode", travelling.metrics),
        memory={name: kept for name, kept in memory.items() if kept},
    )


class _NoParameters(ClientFailed):
    """The client has no parameters to begin with: for analytics that is as it should be."""


def _implements_anything(client: Client) -> bool:
    """Whether there is a `fit` or an `evaluate`; without them it is no client for analytics, but an unfinished one."""
    if isinstance(client, _FromNumPy):
        return client.has("fit") or client.has("evaluate")
    return type(client).fit is not Client.fit or type(client).evaluate is not Client.evaluate


_GIVE_THEM = "give the strategy initial_parameters="
_OK = Status(Code.OK, "Success")


def _missing(code: Code, method: str) -> Status:
    return Status(code, f"the client does not implement {method}()")


def _expect_ok(status: Status) -> None:
    if status.code != Code.OK:
        raise ClientFailed(f"the client answered with status {Code(status.code).name}: {status.message}")


def _triple(method: str, returned: object, form: str) -> tuple[object, object, object]:
    if not isinstance(returned, (tuple, list)) or len(returned) != 3:
        size = f" of length {len(returned)}" if isinstance(returned, (tuple, list)) else ""
        raise Rejected(f"{method}() returned a {type(returned).__name__}{size}; return the 3-tuple {form}")
    return returned[0], returned[1], returned[2]


def _travelling(method: str, arrays: object) -> NDArrays:
    try:
        return as_arrays(arrays)
    except WireError as error:
        raise Rejected(f"{method}() returned parameters that cannot travel: {error}") from None


def _count(method: str, value: object) -> int:
    plain = plain_scalar(value)
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not isinstance(plain, bool) and hasattr(plain, "__index__"):
        with contextlib.suppress(TypeError):  # an array has the method, but is no number
            count = operator.index(plain)
            if -(2**63) <= count < 2**63:
                return count
    raise Rejected(f"{method}() returned num_examples={short(value)}; return a whole number of examples, 0 or more")


def _loss(value: object) -> float:
    plain = plain_scalar(value)
    if isinstance(plain, (int, float)):
        with contextlib.suppress(OverflowError):  # an integer of more than 1024 bits
            return float(plain)
    raise Rejected(f"evaluate() returned the loss {short(value)}, a {type(value).__name__}; return a float")


def _scalars(method: str, metrics: object) -> Metrics:
    try:
        return scalars(metrics)  # type: ignore[arg-type]  # checked there
    except WireError as error:
        raise Rejected(f"{method}() returned metrics that cannot travel: {error}") from None
