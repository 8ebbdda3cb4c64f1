"""How a run ends: it is finished, or the owner stops it."""

from __future__ import annotations

from umbel.rounds import notices
from umbel.rounds.messages import Cancel, Command, Discard, Publish, Stopped
from umbel.rounds.state import Phase, Run

__all__ = ["finish", "stop"]


def stop(run: Run, event: Stopped, at: float) -> list[Command]:
    commands = [Cancel(task, event.why) for task in run.state.wanted_tasks]
    return [*commands, *finish(run, at, event.why, stopped=True)]


def finish(run: Run, at: float, why: str, *, error: str = "", stopped: bool = False) -> list[Command]:
    """Ends the run. What earlier rounds have left at work is given up."""
    s = run.state
    s.enter(Phase.DONE)
    s.wake_at = None
    s.forget_exchange()
    commands: list[Command] = [Cancel(task, why) for task in s.carried]
    commands += [Discard(reply.content) for _, reply in s.kept if reply.content is not None]
    s.carried, s.ahead, s.closed, s.before = [], [], [], None
    s.ended = notices.RunFinished(at, s.completed, why, error, stopped)
    return [*commands, Publish(s.ended)]
