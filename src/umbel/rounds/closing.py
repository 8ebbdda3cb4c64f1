"""How an exchange ends: all have answered, or enough have, the deadline has come, or every client still wanted has left."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from umbel.rounds import notices
from umbel.rounds.answers import publish_failure, take_failure, take_reply, take_report
from umbel.rounds.asking import ask
from umbel.rounds.ending import finish
from umbel.rounds.exchanges import Contribution
from umbel.rounds.messages import (
    Cancel,
    Closed,
    Command,
    Discard,
    Failed,
    Failure,
    FailureKind,
    Joined,
    Left,
    Populated,
    Publish,
    Replied,
    Reported,
    Ticked,
)
from umbel.rounds.opening import begin_exchange, wait
from umbel.rounds.presence import join, leave
from umbel.rounds.seeding import pass_over
from umbel.rounds.state import Phase, Question, Run, State

__all__ = [
    "discard_closed",
    "move_on",
    "open_failed",
    "open_joined",
    "open_left",
    "open_replied",
    "open_reported",
    "open_ticked",
    "progress",
    "publish_closed",
    "try_again",
]

_NONE: Mapping[str, object] = {}


def open_joined(run: Run, event: Joined | Populated, at: float) -> list[Command]:
    return join(run, event, at) + progress(run, at)


def open_left(run: Run, event: Left, at: float) -> list[Command]:
    return leave(run, event, at) + progress(run, at)


def open_replied(run: Run, event: Replied, at: float) -> list[Command]:
    return take_reply(run, event, at) + progress(run, at)


def open_reported(run: Run, event: Reported, at: float) -> list[Command]:
    return take_report(run, event, at) + progress(run, at)


def open_failed(run: Run, event: Failed, at: float) -> list[Command]:
    return take_failure(run, event, at) + progress(run, at)


def open_ticked(run: Run, _: Ticked, at: float) -> list[Command]:
    wake_at = run.state.wake_at
    return [] if wake_at is None or at < wake_at else _close(run, at, FailureKind.LATE)


def progress(run: Run, at: float) -> list[Command]:
    """Closes the exchange if nothing is left to wait for."""
    s = run.state
    if s.phase is not Phase.OPEN:
        return []
    pace = run.pace
    if not s.wanted or (pace.goal is not None and len(s.results) >= pace.goal):
        return _close(run, at, FailureKind.LATE)
    if any(s.tasks[place].client in s.pool for place in s.wanted.values()):
        return []
    # Every client still wanted has left. With enough answers the exchange closes. Without, it stays open for their return
    # until a new cohort can be chosen: waiting loses no work.
    steps = run.exchange.contributes in (Contribution.UPDATES, Contribution.ANSWERS)
    if not steps or len(s.results) >= max(pace.quorum, 1):
        return _close(run, at, FailureKind.LEFT)
    if len(s.pool) >= max(s.needed, 1):
        return try_again(run, at, FailureKind.LEFT)
    return []


def _close(run: Run, at: float, why: FailureKind) -> list[Command]:
    s, pace = run.state, run.pace
    enough = len(s.results) >= pace.quorum
    commands = _carry(run, at) if pace.carry_over else cancel_pending(run, at, why)
    s.wake_at = None
    match run.exchange.contributes:
        case Contribution.METRICS:
            return commands + ask(run, Question.SUMMARIZE)
        case Contribution.PARAMETERS:
            return commands + (ask(run, Question.STEP) if s.results else pass_over(run, at))
    if not enough and s.attempt < pace.retries:
        return commands + try_again(run, at, why)
    if not enough:
        got = f"{len(s.results)} of {pace.quorum} {run.exchange.contributes}"
        return commands + finish(run, at, f"round {s.round} got {got} in {s.attempt + 1} attempts", error="QuorumNotMet")
    if run.exchange.contributes is Contribution.ANSWERS:
        commands.append(publish_closed(s, at))
    return commands + move_on(run, at)


def move_on(run: Run, at: float) -> list[Command]:
    """Begins the next exchange before the step, or asks for the step."""
    s, following = run.state, run.following
    if following is None:
        return ask(run, Question.STEP)
    s.closed.append(s.open)
    return begin_exchange(run, following, at)


def publish_closed(
    s: State,
    at: float,
    closed: Closed | None = None,
    *,
    loss: object = None,
    metrics: Mapping[str, object] = _NONE,
    note: str = "",
) -> Publish:
    """Publishes that the answers of an exchange have become something. `closed` None is the open exchange."""
    if closed is None:
        name, counts, seconds = s.exchange, (len(s.results), len(s.failures)), at - s.opened_at
    else:
        name, counts, seconds = closed.exchange, (len(closed.results), len(closed.failures)), at - closed.opened_at
    return Publish(notices.ExchangeClosed(at, s.round, name, *counts, seconds, loss, {**metrics}, note))


def discard_closed(s: State) -> list[Command]:
    """Discards the answers to the exchanges before the open one."""
    pairs = [pair for closed in s.closed for pair in closed.results]
    s.closed = []
    names = [name for task, reply in pairs for name in (task.content, reply.content)]
    return [Discard(name) for name in dict.fromkeys(names) if name is not None]


def _carry(run: Run, at: float) -> list[Command]:
    """Takes as many answers as make a round. Keeps the rest, and the tasks still at work, for the next.

    Gives up tasks whose client has left, or that started from too old a version.
    """
    s, pace = run.state, run.pace
    commands: list[Command] = []
    for task in s.wanted_tasks:
        place = s.wanted.pop(task.id)
        age = s.round - task.round + 1
        if task.client not in s.pool:
            failure = Failure(FailureKind.LEFT, "the client went away")
        elif pace.max_staleness is not None and age > pace.max_staleness:
            failure = Failure(FailureKind.LATE, f"it started {age} rounds ago; max_staleness is {pace.max_staleness}")
        else:
            s.carried.append(task)
            continue
        s.failures[place] = failure
        commands += [Cancel(task, failure.text), publish_failure(task, failure, at)]
    answered, failed = [(s.tasks[place], reply) for place, reply in sorted(s.results.items())], s.failed
    count = pace.goal if len(answered) >= pace.quorum else 0  # too few stay for the next attempt
    used, s.ahead = answered[:count], answered[count:]
    # numbered anew: the order in which they are folded is that of their start
    s.tasks = [replace(task, index=i, cohort=len(used)) for i, (task, _) in enumerate(used)]
    s.tasks += [task for task, _ in failed]
    s.results = {i: reply for i, (_, reply) in enumerate(used)}
    s.failures = {len(used) + i: failure for i, (_, failure) in enumerate(failed)}
    return commands


def try_again(run: Run, at: float, why: FailureKind) -> list[Command]:
    """Voids the attempt: nothing of it counts, and after a pause the round begins again with its first exchange."""
    s, first = run.state, run.rules.exchanges[0]
    commands = cancel_pending(run, at, why)
    commands += [Discard(reply.content) for reply in s.results.values() if reply.content is not None]
    commands += discard_closed(s)
    s.attempt += 1
    s.wake_at = at + min(2.0 ** min(s.attempt - 1, 3), 5.0)
    return commands + (wait(run, at) if s.exchange == first.name else begin_exchange(run, first, at))


def cancel_pending(run: Run, at: float, why: FailureKind) -> list[Command]:
    """Cancels the tasks that have no answer; each counts as a failure."""
    s = run.state
    text = "the client went away" if why is FailureKind.LEFT else f"no answer after {at - s.opened_at:.1f} s"
    commands: list[Command] = []
    for task in s.wanted_tasks:
        gone = task.client not in s.pool
        failure = Failure(FailureKind.LEFT, "the client went away") if gone else Failure(why, text)
        s.failures[s.wanted[task.id]] = failure
        commands += [Cancel(task, "the round closed"), publish_failure(task, failure, at)]
    s.wanted = {}
    return commands
