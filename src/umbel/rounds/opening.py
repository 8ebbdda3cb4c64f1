"""How an exchange begins: the round waits for enough clients, asks whom, and sends the tasks."""

from __future__ import annotations

import math
from statistics import median

from msgspec import UNSET, UnsetType

from umbel.rounds import events
from umbel.rounds.ending import finish
from umbel.rounds.messages import Choose, Command, Dispatch, Joined, Kind, Member, Populated, Publish, Reply, Task, Ticked
from umbel.rounds.presence import join
from umbel.rounds.state import Phase, Run

__all__ = ["begin_round", "choose", "open_exchange", "wait", "waiting_joined", "waiting_ticked"]

FAR = 10.0  # times the median of the norms that were accepted: what is further is refused


def begin_round(run: Run, at: float) -> list[Command]:
    s = run.state
    if s.completed >= s.num_rounds:
        return finish(run, at, "all rounds done")
    s.round, s.kind, s.attempt, s.needed = s.completed + 1, Kind.FIT, 0, run.rules.min_available
    return [Publish(events.RoundStarted(at, s.round, s.num_rounds)), *wait(run, at)]


def wait(run: Run, at: float) -> list[Command]:
    """Waits for as many clients as are needed, and asks whom as soon as they are there."""
    s = run.state
    s.phase = Phase.WAITING
    s.forget_exchange()
    if len(s.pool) < s.needed:
        return [Publish(events.WaitingForClients(at, s.round, len(s.pool), s.needed))]
    return _choose_if_enough(run, at)


def waiting_joined(run: Run, event: Joined | Populated, at: float) -> list[Command]:
    return join(run, event, at) + _choose_if_enough(run, at)


def waiting_ticked(run: Run, _: Ticked, at: float) -> list[Command]:
    run.state.wake_at = None
    return _choose_if_enough(run, at)


def _choose_if_enough(run: Run, at: float) -> list[Command]:
    s = run.state
    if len(s.pool) < s.needed or (s.wake_at is not None and at < s.wake_at):
        return []
    s.phase, s.wake_at = Phase.CHOOSING, None
    return [choose(run)]


def choose(run: Run) -> Choose:
    """The question who takes part."""
    s = run.state
    assert s.version is not None
    busy = [task.client for task in s.carried]
    return Choose(s.round, s.kind, s.attempt, s.version, s.pool.present(without=busy), len(busy))


def open_exchange(run: Run, kind: Kind, members: tuple[Member, ...], at: float) -> list[Command]:
    """Sends each member a task. What earlier rounds have left at work counts in this exchange from now on."""
    s, pace = run.state, run.rules.pace
    carried = _take_up(run) if kind is Kind.FIT else []
    limit = _max_norm(run) if kind is Kind.FIT else UNSET
    again = f"r{s.losses}" if s.losses else ""  # a round that is done again has tasks of its own
    name = f"{run.rules.run}.{s.round}.{kind}.{s.attempt}{again}"
    new = [
        Task(
            id=f"{name}.{index}",
            round=s.round,
            kind=kind,
            index=index,
            cohort=len(members),
            client=member.client,
            version=s.version,
            config=member.config,
            content=member.content,
            at=at,
            max_norm=limit,
        )
        for index, member in enumerate(members)
    ]
    s.tasks = [*(task for task, _ in carried), *new]
    s.results = {place: reply for place, (_, reply) in enumerate(carried) if reply is not None}
    s.wanted = {task.id: place for place, task in enumerate(s.tasks) if place not in s.results}
    s.failures, s.opened_at = {}, at
    s.wake_at = None if pace.deadline is None else at + pace.deadline
    clients = tuple(member.client for member in members)
    chosen = events.CohortChosen(at, s.round, kind, s.attempt, clients, len(s.pool))
    return [Publish(chosen), *(Dispatch(task) for task in new)]


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
