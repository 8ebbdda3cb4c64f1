"""The answers to the exchanges of a round that have closed. Knows contents; asks no client."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from umbel.dialogue import Parameters, scalars
from umbel.dialogue.results import Provenance, Result
from umbel.rounds.messages import Closed, Kind, Reply, Task
from umbel.runtime.contents import Contents, as_parameters

__all__ = ["answers_of", "contents_of"]


def answers_of(closed: Sequence[Closed] | UnsetType, contents: Contents) -> dict[str, list[Result]]:
    """By name of the exchange, each client's answer, in task order. What workers have added up has no arrays here."""
    return {
        each.exchange: [_result(task, reply, contents) for task, reply in each.results]
        for each in ([] if closed is UNSET else closed)
    }


def contents_of(closed: Sequence[Closed] | UnsetType) -> list[str]:
    """The contents that these exchanges have sent and brought: not needed once the step is made."""
    names = []
    for each in [] if closed is UNSET else closed:
        tasks: list[Task] = [task for task, _ in (*each.results, *each.failures)]
        names += [task.content for task in tasks] + [reply.content for _, reply in each.results]
    return [name for name in names if name is not None]


def _result(task: Task, reply: Reply, contents: Contents) -> Result:
    parameters = None
    if task.kind is Kind.FIT:
        parameters = Parameters.of([]) if reply.content is None else as_parameters(contents.open(reply.content))
    metrics = scalars(reply.metrics)
    return Result(task.client, reply.num_examples, metrics, parameters, reply.loss, Provenance(task.index))
