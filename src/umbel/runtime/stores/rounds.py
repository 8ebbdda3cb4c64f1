"""The store of a simulation: contents in memory, and once a round what it would take to go on.

A journal entry per task would cost more than most tasks; and a round that is lost can be done again with the same result,
because every draw of it is addressed by round and client. For the case that what was kept is damaged, the model of the time
before is kept, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from umbel.errors import ContentDamaged, StoreError
from umbel.rounds.coordinator import Before, State
from umbel.rounds.messages import Lost
from umbel.runtime.contents import Content, Contents, creating
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
        self._before: Before | None = None  # what was true when that was brought there
        self._spare: Before | None = None  # and at the time before, with an older model

    def write(self, entries: Sequence[Entry], snapshot: Snapshot | None = None) -> None:
        if snapshot is None:
            return
        durable, state = self._durable.contents, snapshot.state
        for name in self._kept:  # whoever has touched them: said now, and not by the next process
            durable.open(name).close()
        if self._before is not None and self._before.version != state.version:
            self._spare = self._before
        spare = self._kept & self._files({self._spare.version}) if self._spare is not None else set()
        names = self._bring(state.contents, state.versions, self.contents, durable) | spare
        changed = self._states.take_changed()
        kept = snapshot._replace(state=replace(state, before=self._spare))
        self._durable.write([], kept, lambda: ((client, self._states.get(client)) for client in changed))
        durable.keep_only(names)
        self._kept, self._before = names, state.here

    def bring(self, state: State, lost: Lost | None = None) -> None:
        """Brings what a state needs, and has not lost, from the durable place, for a run that goes on."""
        gone, durable = lost or Lost(), self._durable.contents
        back = state.version in gone.versions
        versions = (state.versions | (state.spare if back else frozenset())).difference(gone.versions)
        names = self._bring(state.contents.difference(gone.contents), versions, durable, self.contents)
        self._before, self._spare = (state.before, None) if back else (state.here, state.before)
        if self._spare is not None and self._spare.version in gone.versions:
            self._spare = None
        beside = self._files({self._spare.version}) if self._spare is not None else set()
        self._kept = names | {name for name in beside if _has(durable, name)}

    def accepted(self, task: str) -> bool:
        return False

    def note(self, name: str, value: object) -> None:
        self._durable.note(name, value)

    def finish(self, status: str) -> None:
        self._durable.finish(status)

    def close(self) -> None:
        self._durable.close()

    def _files(self, versions: Iterable[int]) -> set[str]:
        """Names of everything that these versions may have."""
        slots = {GlobalModel.slot_name(version, slot) for version in versions for slot in self._slots}
        return {GlobalModel.name(version) for version in versions} | slots

    def _bring(self, updates: Set[str], versions: Set[int], source: Contents, target: Contents) -> set[str]:
        """Copies updates and versions, and what goes with them; the names of all that."""
        names = {GlobalModel.name(version) for version in versions} | updates
        slots = self._files(versions) - names
        for name in sorted(names | slots):
            if name in self._kept:
                names.add(name)
                continue
            try:
                content = source.open(name)
            except ContentDamaged:
                raise
            except StoreError:
                if name in slots:  # nothing has been remembered so far
                    continue
                raise
            self._copy(content, name, target)
            names.add(name)
        return names

    def _copy(self, content: Content, name: str, target: Contents) -> None:
        with creating(target, name) as writer, closing(content):
            for block in content.blocks(0):
                writer.write(block)


def _has(contents: Contents, name: str) -> bool:
    try:
        contents.open(name).close()
    except StoreError:
        return False
    return True
