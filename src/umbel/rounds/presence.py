"""Who is there: clients come and go. Knows no exchange."""

from __future__ import annotations

from umbel.rounds import notices
from umbel.rounds.messages import Command, Joined, Left, Populated, Publish
from umbel.rounds.state import Run

__all__ = ["join", "leave"]


def join(run: Run, event: Joined | Populated, at: float) -> list[Command]:
    s, before = run.state, len(run.state.pool)
    if isinstance(event, Joined):
        s.refused.pop(event.client, None)  # who comes back may have parameters by now
        s.empty.pop(event.client, None)
        s.pool.add(event.client)
        return [Publish(notices.ClientJoined(at, event.client, len(s.pool)))] if len(s.pool) > before else []
    s.everybody = True
    s.pool.add_range(event.numbered)
    for name in event.names:
        s.pool.add(name)
    return [Publish(notices.PopulationJoined(at, len(s.pool) - before, len(s.pool)))] if len(s.pool) > before else []


def leave(run: Run, event: Left, at: float) -> list[Command]:
    s = run.state
    if event.client not in s.pool:
        return []
    s.pool.remove(event.client)
    return [Publish(notices.ClientLeft(at, event.client, len(s.pool), event.why))]
