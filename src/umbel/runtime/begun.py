"""Where a run begins, or goes on: what was restored of it, its store and model, and what of these is lost.

Knows stores and contents; knows no clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from umbel.rounds.coordinator import Coordinator, State
from umbel.rounds.messages import Lost
from umbel.runtime.damage import find_damage
from umbel.runtime.experiment import Experiment
from umbel.runtime.failpoints import failpoint
from umbel.runtime.model import GlobalModel
from umbel.runtime.resume import Restored
from umbel.runtime.run_registry import OpenedRun
from umbel.runtime.stores.base import Store

__all__ = ["Begun", "begin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run at its beginning, or where it was left: as it was restored, its store and model, and what of these is lost.

    `opened` is None where the run has no name in a store, so that nothing is left to finish at its end.
    """

    restored: Restored
    store: Store
    model: GlobalModel
    lost: Lost | None
    opened: OpenedRun | None

    @property
    def coordinator(self) -> Coordinator:
        return self.restored.coordinator

    @property
    def state(self) -> State:
        return self.restored.coordinator.state


def begin(experiment: Experiment, restored: Restored, store: Store, opened: OpenedRun | None = None) -> Begun:
    """Checks what the run needs of its store's contents, and removes the rest. Raises `StoreError` where it cannot go on."""
    model, state = experiment.model(store.contents), restored.coordinator.state
    lost = find_damage(model, state)
    failpoint("resume.before-sweep")
    model.keep_only(state, state.versions | state.spare)
    failpoint("resume.after-sweep")
    return Begun(restored=restored, store=store, model=model, lost=lost, opened=opened)
