"""The store of a simulation: contents in memory, and once a round what it would take to go on.

A journal entry per task would cost more than most tasks; and a round that is lost can be done again with the same result,
because every draw of it is addressed by round and client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from umbel.rounds.messages import Input
from umbel.runtime.contents import Contents
from umbel.runtime.model import GlobalModel
from umbel.runtime.stores.base import Snapshot, Unit
from umbel.runtime.transports.simulated.states import States

if TYPE_CHECKING:
    from umbel.runtime.stores.sql import SqlStore

__all__ = ["RoundStore"]


class RoundStore:
    """`contents` is where the run works; between two rounds the model, the state and the clients' states go to `durable`."""

    unit = Unit.ROUND

    def __init__(self, durable: SqlStore, contents: Contents, states: States) -> None:
        self.contents = contents
        self._durable = durable
        self._states = states

    def write(self, entries: Sequence[tuple[Input, float]], snapshot: Snapshot | None = None) -> None:
        if snapshot is None:
            return
        names = [] if snapshot.state.version is None else [GlobalModel.name(snapshot.state.version)]
        for name in names:
            self._copy(name, self.contents, self._durable.contents)
        self._durable.write([], snapshot, self._states.take_changed())
        self._durable.contents.keep_only(names)

    def bring(self, version: int) -> None:
        """Brings a version of the model from the durable place, for a run that goes on."""
        self._copy(GlobalModel.name(version), self._durable.contents, self.contents)

    def accepted(self, task: str) -> bool:
        return False

    def finish(self, status: str) -> None:
        self._durable.finish(status)

    def close(self) -> None:
        self._durable.close()

    def _copy(self, name: str, source: Contents, target: Contents) -> None:
        content, writer = source.open(name), target.create(name)
        try:
            for block in content.blocks(0):
                writer.write(block)
        except BaseException:
            writer.abort()
            raise
        finally:
            content.close()
        writer.commit()
