"""How an exchange begins: the run waits for enough clients, asks whom, and sends the tasks."""

from __future__ import annotations

import math
from statistics import median

from msgspec import UNSET, UnsetType

from umbel.rounds import notices
from umbel.rounds.asking import ask
from umbel.rounds.ending import finish
from umbel.rounds.exchanges import Contribution, Exchange, To
from umbel.rounds.messages import Command, Dispatch, Kind, Member, Publish, Reply, Task
from umbel.rounds.state import Phase, Question, Run

__all__ = ["begin_exchange", "begin_round", "choose_if_enough", "open_exchange", "wait"]

FAR = 10.0  # times the median of the norms that were accepted: what is further is refused


def begin_round(run: Run, at: float) -> list[Command]:
    s = run.state
    if s.completed >= s.num_rounds:
        return finish(run, at, "all rounds done")
    s.round, s.attempt = s.completed + 1, 0
    return [Publish(notices.RoundStarted(at, s.round, s.num_rounds)), *begin_exchange(run, run.rules.exchanges[0], at)]


def begin_exchange(run: Run, exchange: Exchange, at: float) -> list[Command]:
    s = run.state
    s.exchange = exchange.name
    s.needed = run.rules.min_available if exchange.to is To.CHOSEN else 0
    return wait(run, at)


def wait(run: Run, at: float) -> list[Command]:
    """Waits for as many clients as are needed, and asks whom as soon as they are there."""
    s = run.state
    s.enter(Phase.WAITING)
    s.forget_exchange()
    if len(s.pool) < s.needed:
        return [Publish(notices.WaitingForClients(at, s.round, len(s.pool), s.needed))]
    return choose_if_enough(run, at)


def choose_if_enough(run: Run, at: float) -> list[Command]:
    s = run.state
    if len(s.pool) < s.needed or (s.wake_at is not None and at < s.wake_at):
        return []
    return ask(run, Question.CHOOSE)


def open_exchange(run: Run, members: tuple[Member, ...], at: float) -> list[Command]:
    """Sends each member a task. What earlier rounds have left at work counts in this exchange from now on."""
    s, exchange, deadline = run.state, run.exchange, run.pace.deadline
    updates = exchange.contributes is Contribution.UPDATES
    carried = _take_up(run) if updates else []
    limit = _max_norm(run) if updates else UNSET
    again = f"r{s.losses}" if s.losses else ""  # a round that is done again has tasks of its own
    name = f"{run.rules.run}.{s.round}.{exchange.name}.{s.attempt}{again}"
    new = [
        Task(
            id=f"{name}.{index}",
            round=s.round,
            kind=exchange.kind,
            index=index,
            cohort=len(members),
            client=member.client,
            version=None if exchange.kind is Kind.PROPERTIES else s.version,
            config=member.config,
            content=member.content,
            at=at,
            max_norm=limit,
            exchange=UNSET if exchange.name == exchange.kind else exchange.name,
        )
        for index, member in enumerate(members)
    ]
    s.enter(Phase.OPEN)
    s.tasks = [*(task for task, _ in carried), *new]
    s.results = {place: reply for place, (_, reply) in enumerate(carried) if reply is not None}
    s.wanted = {task.id: place for place, task in enumerate(s.tasks) if place not in s.results}
    s.failures, s.opened_at = {}, at
    s.wake_at = None if deadline is None else at + deadline
    clients = tuple(member.client for member in members)
    chosen = notices.CohortChosen(at, s.round, exchange.name, s.attempt, clients, len(s.pool))
    return [Publish(chosen), *map(Dispatch, new)]


def _max_norm(run: Run) -> float | UnsetType:
    """The largest norm for updates of this round, infinite before there is anything to compare with; unset for none."""
    limit = run.rules.pace.max_update_norm
    if limit is None:
        return UNSET
    if isinstance(limit, str):
        return FAR * median(run.state.norms) if run.state.norms else math.inf
    return float(limit)


def _take_up(run: Run) -> list[tuple[Task, Reply | None]]:
    """The carried tasks, with the answers of those that have one; they are the open exchange's from now on."""
    s = run.state
    both: list[tuple[Task, Reply | None]] = [*s.ahead, *((task, None) for task in s.carried)]
    s.ahead, s.carried = [], []
    return sorted(both, key=lambda entry: (entry[0].round, entry[0].id.split(".")[-2], entry[0].index))
