"""The first parameters, where the strategy has none: one client after another is asked for its own.

The first by name of those present, once enough are there, so that the choice repeats. One that says that it has none is not
asked again, one that raises is, after a while. Where nobody has any, the run begins with an empty model.
"""

from __future__ import annotations

from umbel.rounds import events
from umbel.rounds.answers import take_failure, take_reply, take_report
from umbel.rounds.closing import cancel_pending, step
from umbel.rounds.messages import (
    Command,
    Failed,
    FailureKind,
    Joined,
    Kind,
    Left,
    Member,
    Populated,
    Publish,
    Replied,
    Reported,
    Ticked,
)
from umbel.rounds.opening import open_exchange
from umbel.rounds.presence import join, leave
from umbel.rounds.state import Phase, Run, State

__all__ = [
    "EMPTY_GRACE",
    "MOST_EMPTY",
    "SEED_RETRY",
    "ask_next",
    "seed_failed",
    "seed_joined",
    "seed_left",
    "seed_replied",
    "seed_reported",
    "seed_ticked",
]

SEED_RETRY = 10.0  # seconds before clients that could not give parameters are asked again
EMPTY_GRACE = 2.0  # seconds in which others may come, after all who are there have said that they have no parameters
MOST_EMPTY = 100  # clients that say so speak for all the others


def ask_next(run: Run, at: float) -> list[Command]:
    """Asks the next client for its parameters, once enough clients are there to make the choice repeatable."""
    s = run.state
    s.forget_exchange()
    if _nobody_has_parameters(s):
        s.wake_at = at + EMPTY_GRACE
        return _begin_empty(run) if s.everybody or len(s.empty) >= MOST_EMPTY else []
    enough = len(s.pool) >= s.needed
    first = next((client for client in s.pool if client not in s.refused), None) if enough else None
    if first is None:
        able = len(s.pool) - sum(client in s.pool for client in s.refused)
        s.wake_at = at + SEED_RETRY if s.refused else None
        return [Publish(events.WaitingForClients(at, 0, able, max(s.needed, len(s.pool) + 1)))]
    s.attempt += 1
    return open_exchange(run, Kind.PARAMETERS, (Member(first),), at)


def seed_joined(run: Run, event: Joined | Populated, at: float) -> list[Command]:
    s, joined = run.state, join(run, event, at)
    if isinstance(event, Joined):
        s.refused.pop(event.client, None)
        s.empty.pop(event.client, None)
    return joined if s.wanted else joined + ask_next(run, at)


def seed_left(run: Run, event: Left, at: float) -> list[Command]:
    s, commands = run.state, leave(run, event, at)
    if any(task.client == event.client for task in s.pending):
        return commands + _give_up(run, at, FailureKind.LEFT)
    return commands + ask_next(run, at) if not s.wanted and _nobody_has_parameters(s) else commands


def seed_replied(run: Run, event: Replied, at: float) -> list[Command]:
    return take_reply(run, event, at) + _begin_with_results(run)


def seed_reported(run: Run, event: Reported, at: float) -> list[Command]:
    return take_report(run, event, at) + _begin_with_results(run)


def seed_failed(run: Run, event: Failed, at: float) -> list[Command]:
    s, commands = run.state, take_failure(run, event, at)
    if s.tasks and not s.wanted:
        client = s.tasks[0].client
        s.refused[client] = None
        if event.failure.kind is FailureKind.EMPTY:
            s.empty[client] = None
        commands += ask_next(run, at)
    return commands


def seed_ticked(run: Run, _: Ticked, at: float) -> list[Command]:
    s = run.state
    if s.wanted:
        return _give_up(run, at, FailureKind.LATE)
    if _nobody_has_parameters(s):
        return _begin_empty(run)
    s.refused = dict(s.empty)
    return ask_next(run, at)


def _give_up(run: Run, at: float, kind: FailureKind) -> list[Command]:
    """Gives up on the client that was asked and asks the next one."""
    run.state.refused[run.state.tasks[0].client] = None
    return [*cancel_pending(run, at, kind), *ask_next(run, at)]


def _nobody_has_parameters(s: State) -> bool:
    """Whether everybody who is there has said so, or so many that it holds for all. Who has raised has said nothing."""
    said = sum(client in s.pool for client in s.empty)
    return len(s.pool) >= s.needed and said >= min(max(len(s.pool), 1), MOST_EMPTY)


def _begin_with_results(run: Run) -> list[Command]:
    return _begin_empty(run) if run.state.results else []


def _begin_empty(run: Run) -> list[Command]:
    """The run begins with a model without arrays: a step with no results."""
    run.state.phase, run.state.wake_at = Phase.STEPPING, None
    return [step(run)]
