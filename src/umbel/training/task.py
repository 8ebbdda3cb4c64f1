"""Does a client's task: `run_task` is the only code that calls what users have written.

Knows arrays and user code; knows no sockets and no rounds.
"""

from __future__ import annotations

import contextlib
import operator
import os
from bdb import BdbQuit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from umbel.accidents import describe, format_traceback, is_an_end
from umbel.dialogue import (
    Code,
    Config,
    EvaluateIns,
    FitIns,
    GetParametersIns,
    GetPropertiesIns,
    Metrics,
    Parameters,
    Status,
    as_text,
    plain_scalar,
    scalars,
)
from umbel.errors import ClientFailed, Rejected, WireError
from umbel.params import NamedArrays, NDArrays, Params, named_as, schema_of
from umbel.rounds.messages import Failure, FailureKind, Kind
from umbel.secret import Secret
from umbel.training.client import Client, FromNumPy, travelling
from umbel.training.sent import take_sent
from umbel.transforms import Applied, Site, chain_of, whose
from umbel.update import MODEL, NOTHING, Update
from umbel.wire import Schema, short

__all__ = ["Answer", "Encoding", "accident", "run_task"]

Memory = dict[str, dict[str, object]]  # what transforms remember at a client, by their names

LONGEST = 2000  # characters of what is said about a task that failed


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
        return answer if encoding is None else _encode(answer, take_sent(sent, encoding.beside), encoding)
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
    if kind is Kind.FIT and isinstance(client, FromNumPy) and client.has("fit"):  # saves a simulated task 25 µs
        trained, num_examples, metrics = client.fitted(arrays, config)
        return Answer(trained, _count("fit", num_examples), metrics=_scalars("fit", metrics))
    names, parameters = arrays.names, Parameters.of(arrays)
    match kind:
        case Kind.FIT:
            fitted = client.fit(FitIns(parameters, config))
            _expect_ok(fitted.status)
            return Answer(
                arrays=named_as(travelling("fit", fitted.parameters.arrays()), names),
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
            own = travelling("get_parameters", initial.parameters.arrays())
            if not own:
                raise _NoParameters(f"get_parameters() returned no arrays; implement it, or {_GIVE_THEM}")
            return Answer(arrays=own)


def _encode(answer: Answer, beside: Mapping[str, NDArrays], encoding: Encoding) -> Answer:
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
    if isinstance(client, FromNumPy):
        return client.has("fit") or client.has("evaluate")
    return type(client).fit is not Client.fit or type(client).evaluate is not Client.evaluate


_GIVE_THEM = "give the strategy initial_parameters="


def _expect_ok(status: Status) -> None:
    if status.code != Code.OK:
        raise ClientFailed(f"the client answered with status {Code(status.code).name}: {status.message}")


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
