"""What moves a run on that waits for clients: one that joins, and time."""

from __future__ import annotations

from umbel.rounds.exchanges import Contribution
from umbel.rounds.messages import Command, Joined, Left, Populated, Ticked
from umbel.rounds.opening import choose_if_enough
from umbel.rounds.presence import join, leave
from umbel.rounds.seeding import ask_next, nobody_has_parameters, retry
from umbel.rounds.state import Run

__all__ = ["waiting_joined", "waiting_left", "waiting_ticked"]


def waiting_joined(run: Run, event: Joined | Populated, at: float) -> list[Command]:
    joined = join(run, event, at)
    return joined + (ask_next(run, at) if _seeds(run) else choose_if_enough(run, at))


def waiting_left(run: Run, event: Left, at: float) -> list[Command]:
    left = leave(run, event, at)
    return left + ask_next(run, at) if _seeds(run) and nobody_has_parameters(run.state) else left


def waiting_ticked(run: Run, _: Ticked, at: float) -> list[Command]:
    run.state.wake_at = None
    return retry(run, at) if _seeds(run) else choose_if_enough(run, at)


def _seeds(run: Run) -> bool:
    return run.exchange.contributes is Contribution.PARAMETERS
