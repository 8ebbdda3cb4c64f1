"""How an exchange ends: when all have answered, or enough, or the deadline has come, or nobody is left to wait for."""

from __future__ import annotations

from msgspec.structs import replace

from umbel.rounds.answers import publish_failure, take_failure, take_reply, take_report
from umbel.rounds.ending import finish
from umbel.rounds.messages import (
    Cancel,
    Command,
    Discard,
    Failed,
    Failure,
    FailureKind,
    Joined,
    Kind,
    Left,
    Populated,
    Replied,
    Reported,
    Step,
    Summarize,
    Ticked,
)
from umbel.rounds.opening import wait
from umbel.rounds.presence import join, leave
from umbel.rounds.state import Phase, Run

__all__ = [
    "cancel_pending",
    "open_failed",
    "open_joined",
    "open_left",
    "open_replied",
    "open_reported",
    "open_ticked",
    "progress",
    "step",
    "summarize",
]


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
    s, pace = run.state, run.rules.pace
    if s.phase not in (Phase.FIT, Phase.EVALUATE):
        return []
    if not s.wanted or (s.kind is Kind.FIT and pace.goal is not None and len(s.results) >= pace.goal):
        return _close(run, at, FailureKind.LATE)
    if any(s.tasks[place].client in s.pool for place in s.wanted.values()):
        return []
    # Whoever is still wanted has left. Enough answers: close with them. Not one answer: the others' work is not lost
    # by waiting for their return, so wait until a new cohort could be chosen.
    if s.kind is Kind.EVALUATE or len(s.results) >= max(pace.quorum, 1):
        return _close(run, at, FailureKind.LEFT)
    if len(s.pool) >= max(s.needed, 1):
        return _try_again(run, at, FailureKind.LEFT)
    return []


def step(run: Run) -> Step:
    """The question what the updates make of the model."""
    s = run.state
    return Step(s.round, s.version, s.answered, s.failed)


def summarize(run: Run) -> Summarize:
    """The question what the clients' evaluations say together."""
    s = run.state
    return Summarize(s.round, s.answered, s.failed)


def _close(run: Run, at: float, why: FailureKind) -> list[Command]:
    s, pace = run.state, run.rules.pace
    enough = len(s.results) >= pace.quorum
    carries = pace.carry_over and s.kind is Kind.FIT
    commands = _carry(run, at) if carries else cancel_pending(run, at, why)
    s.wake_at = None
    if s.kind is Kind.EVALUATE:
        s.phase = Phase.SUMMARIZING
        return [*commands, summarize(run)]
    if enough:
        s.phase = Phase.STEPPING
        return [*commands, step(run)]
    if s.attempt < pace.retries:
        return commands + _try_again(run, at, why)
    tried = f"round {s.round} got {len(s.results)} of {pace.quorum} updates in {s.attempt + 1} attempts"
    return commands + finish(run, at, tried, error="QuorumNotMet")


def _carry(run: Run, at: float) -> list[Command]:
    """Takes as many answers as make a round, and keeps the rest, and the tasks still at work, for the next.

    Who has left, and what started from too old a version, is given up.
    """
    s, pace = run.state, run.rules.pace
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


def _try_again(run: Run, at: float, why: FailureKind) -> list[Command]:
    """The attempt is void: nothing of it counts, and after a pause the round chooses anew."""
    s = run.state
    commands = cancel_pending(run, at, why)
    commands += [Discard(r.content) for r in s.results.values() if r.content is not None]
    s.attempt += 1
    s.wake_at = at + min(2.0 ** min(s.attempt - 1, 3), 5.0)
    return commands + wait(run, at)


def cancel_pending(run: Run, at: float, why: FailureKind) -> list[Command]:
    """Every answer still wanted is wanted no longer, and counts as a failure."""
    s = run.state
    text = {FailureKind.LATE: f"no answer after {at - s.opened_at:.1f} s", FailureKind.LEFT: "the client went away"}[why]
    commands: list[Command] = []
    for task in s.wanted_tasks:
        gone = task.client not in s.pool
        failure = Failure(FailureKind.LEFT, "the client went away") if gone else Failure(why, text)
        s.failures[s.wanted[task.id]] = failure
        commands += [Cancel(task, "the round closed"), publish_failure(task, failure, at)]
    s.wanted = {}
    return commands
