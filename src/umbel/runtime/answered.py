"""The answers to the exchanges of a round, as a strategy is given them. Knows contents; asks no client."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET, UnsetType

from umbel.exchange import Code, EvaluateRes, FitRes, GetPropertiesRes, Parameters, Status, scalars
from umbel.rounds.messages import Closed, Kind, Reply, Task
from umbel.runtime.contents import Contents, as_parameters
from umbel.strategies.base import Answers
from umbel.strategies.clients import ClientProxy

__all__ = ["answers_of", "contents_of"]

_OK = Status(Code.OK, "Success")


def answers_of(
    closed: Sequence[Closed] | UnsetType, client: Callable[[str], ClientProxy], contents: Contents
) -> Answers:
    """By name of the exchange, each client and its answer, in task order. What workers have added up has no arrays here."""
    return {
        each.exchange: [(client(task.client), _response(task.kind, reply, contents)) for task, reply in each.results]
        for each in ([] if closed is UNSET else closed)
    }


def contents_of(closed: Sequence[Closed] | UnsetType) -> list[str]:
    """The contents that these exchanges have sent and brought: not needed once the step is made."""
    names = []
    for each in [] if closed is UNSET else closed:
        tasks: list[Task] = [task for task, _ in (*each.results, *each.failures)]
        names += [task.content for task in tasks] + [reply.content for _, reply in each.results]
    return [name for name in names if name is not None]


def _response(kind: Kind, reply: Reply, contents: Contents) -> FitRes | EvaluateRes | GetPropertiesRes:
    metrics = scalars(reply.metrics)
    match kind:
        case Kind.EVALUATE:
            return EvaluateRes(_OK, reply.loss, reply.num_examples, metrics)
        case Kind.PROPERTIES:
            return GetPropertiesRes(_OK, metrics)
        case _:
            parameters = Parameters.of([]) if reply.content is None else as_parameters(contents.open(reply.content))
            return FitRes(_OK, parameters, reply.num_examples, metrics)
