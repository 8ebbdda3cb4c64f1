"""A run as it was when its store ended: the snapshot, and what came after it fed through the same machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import Publish
from umbel.runtime.observers.history import History
from umbel.runtime.replay import replay

if TYPE_CHECKING:
    from umbel.runtime.stores.sql import Stored

__all__ = ["restored"]


def restored(stored: Stored | None, rules: Rules, num_rounds: int) -> tuple[Coordinator, History, float]:
    """The coordinator and the history, and the run time of the last entry; new ones where nothing is stored."""
    history, at = History(), 0.0
    coordinator = Coordinator(rules, State(num_rounds=num_rounds))
    if stored is not None:
        if stored.state is not None:
            coordinator = Coordinator(rules, stored.state)
            history, at = History.from_bytes(stored.history), stored.at
        for entry in replay(coordinator, stored.entries):
            at = entry.at
            for command in entry.commands:
                if isinstance(command, Publish):
                    history.observe(command.event)
    return coordinator, history, at
