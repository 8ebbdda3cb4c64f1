"""A run as it was when its store ended: the snapshot, and what came after it fed through the same machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from umbel.rounds.coordinator import Coordinator, Rules, State
from umbel.rounds.messages import Publish
from umbel.rounds.notices import Notice
from umbel.runtime.log import logger
from umbel.runtime.observers.history import History
from umbel.runtime.replay import replay

if TYPE_CHECKING:
    from umbel.runtime.stores.database import Stored

__all__ = ["Restored", "restore"]


class Restored(NamedTuple):
    """A run that goes on, or begins. `untold` is what has come to the History since the last snapshot."""

    coordinator: Coordinator
    history: History
    untold: list[Notice]
    at: float  # run time of the last entry, s


def restore(stored: Stored | None, rules: Rules, num_rounds: int) -> Restored:
    """The run as it was stored; a new one where nothing is."""
    history, at, untold = History(), 0.0, list[Notice]()
    coordinator = Coordinator(rules, State(num_rounds=num_rounds))
    if stored is not None:
        if stored.state is not None:
            coordinator = Coordinator(rules, stored.state)
            history, at = stored.history, stored.at
        for entry in replay(coordinator, stored.entries):
            at = entry.at
            for command in entry.commands:
                if isinstance(command, Publish) and history.observe(command.event):
                    untold.append(command.event)
        most = coordinator.state.num_rounds
        if num_rounds < most:
            done = coordinator.state.completed
            text = "num_rounds=%d is less than the %d that this run was begun with: %d are done, and it goes on to %d"
            logger.warning(text, num_rounds, most, done, most)
    return Restored(coordinator, history, untold, at)
