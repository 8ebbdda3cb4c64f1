"""The first parameters, where the strategy has none: an exchange with one client, and then with the next.

It is the first by name of those present, once enough are there, so that the choice repeats. A client that says that it has
none is not asked again; a client that raises is, after a while. Where no client has any, the run begins with an empty model.
"""

from __future__ import annotations

from umbel.rounds import notices
from umbel.rounds.asking import ask
from umbel.rounds.exchanges import FIRST_PARAMETERS
from umbel.rounds.messages import Command, FailureKind, Member, Publish
from umbel.rounds.opening import open_exchange
from umbel.rounds.state import Phase, Question, Run, State

__all__ = [
    "EMPTY_GRACE",
    "MOST_EMPTY",
    "SEED_RETRY",
    "ask_next",
    "begin_seeding",
    "nobody_has_parameters",
    "pass_over",
    "retry",
]

SEED_RETRY = 10.0  # seconds before clients that could not give parameters are asked again
EMPTY_GRACE = 2.0  # seconds in which others may come, after all who are there have said that they have no parameters
MOST_EMPTY = 100  # clients that say so speak for all the others


def begin_seeding(run: Run, at: float) -> list[Command]:
    run.state.exchange, run.state.needed = FIRST_PARAMETERS.name, run.rules.min_available
    return ask_next(run, at)


def ask_next(run: Run, at: float) -> list[Command]:
    """Asks the next client for its parameters, once enough clients are there to make the choice repeatable."""
    s = run.state
    s.enter(Phase.WAITING)
    s.forget_exchange()
    if nobody_has_parameters(s):
        s.wake_at = at + EMPTY_GRACE
        return ask(run, Question.STEP) if s.everybody or len(s.empty) >= MOST_EMPTY else []
    enough = len(s.pool) >= s.needed
    first = next((client for client in s.pool if client not in s.refused), None) if enough else None
    if first is None:
        able = len(s.pool) - sum(client in s.pool for client in s.refused)
        s.wake_at = at + SEED_RETRY if s.refused else None
        return [Publish(notices.WaitingForClients(at, 0, able, max(s.needed, len(s.pool) + 1)))]
    s.attempt += 1
    return open_exchange(run, (Member(first),), at)


def pass_over(run: Run, at: float) -> list[Command]:
    """Notes that the client that was asked has given nothing, and asks the next one."""
    s = run.state
    client = s.tasks[0].client
    s.refused[client] = None
    if s.failures[0].kind is FailureKind.EMPTY:
        s.empty[client] = None
    return ask_next(run, at)


def retry(run: Run, at: float) -> list[Command]:
    """Asks those again that have raised; begins with an empty model where no client has parameters."""
    s = run.state
    if nobody_has_parameters(s):
        return ask(run, Question.STEP)
    s.refused = dict(s.empty)
    return ask_next(run, at)


def nobody_has_parameters(s: State) -> bool:
    """Whether all clients present have said so, or `MOST_EMPTY` have. A client that has raised has said nothing."""
    said = sum(client in s.pool for client in s.empty)
    return len(s.pool) >= s.needed and said >= min(max(len(s.pool), 1), MOST_EMPTY)
