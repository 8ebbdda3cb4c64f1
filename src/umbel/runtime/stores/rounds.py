"""The store of a simulation: contents in memory, and once a round what it would take to go on.

A journal entry per task would cost more than most tasks; and a round that is lost can be done again with the same result,
because every draw of it is addressed by round and client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from umbel.errors import StoreError
from umbel.rounds.coordinator import State
from umbel.runtime.contents import Content, Contents
from umbel.runtime.model import GlobalModel
from umbel.runtime.stores.base import Entry, Snapshot, Unit
from umbel.runtime.transports.simulated.states import States

if TYPE_CHECKING:
    from umbel.runtime.stores.sql import SqlStore

__all__ = ["RoundStore"]


class RoundStore:
    """`contents` is where the run works; between two rounds the model, the state and the clients' states go to `durable`.

    `slots` are the names of what the strategy remembers, which goes with the model.
    """

    unit = Unit.ROUND
    head = None

    def __init__(self, durable: SqlStore, contents: Contents, states: States, slots: Sequence[str] = ()) -> None:
        self.contents = contents
        self._durable = durable
        self._states = states
        self._slots = slots
        self._kept: set[str] = set()  # what the durable place has

    def write(self, entries: Sequence[Entry], snapshot: Snapshot | None = None) -> None:
        if snapshot is None:
            return
        names = self._bring(snapshot.state, self.contents, self._durable.contents)
        changed = self._states.take_changed()
        self._durable.write([], snapshot, lambda: ((client, self._states.get(client)) for client in changed))
        self._durable.contents.keep_only(names)
        self._kept = names

    def bring(self, state: State) -> None:
        """Brings what a state needs from the durable place, for a run that goes on."""
        self._kept = self._bring(state, self._durable.contents, self.contents)

    def accepted(self, task: str) -> bool:
        return False

    def finish(self, status: str) -> None:
        self._durable.finish(status)

    def close(self) -> None:
        self._durable.close()

    def _bring(self, state: State, source: Contents, target: Contents) -> set[str]:
        """Copies the versions and updates that a state needs, and what goes with them; the names of all that."""
        names = {GlobalModel.name(version) for version in state.versions} | state.contents
        slots = {GlobalModel.slot_name(version, slot) for version in state.versions for slot in self._slots}
        for name in sorted(names | slots):
            if name in self._kept:
                names.add(name)
                continue
            try:
                content = source.open(name)
            except StoreError:
                if name in slots:  # nothing has been remembered so far
                    continue
                raise
            self._copy(content, name, target)
            names.add(name)
        return names

    def _copy(self, content: Content, name: str, target: Contents) -> None:
        writer = target.create(name)
        try:
            for block in content.blocks(0):
                writer.write(block)
        except BaseException:
            writer.abort()
            raise
        finally:
            content.close()
        writer.commit()
