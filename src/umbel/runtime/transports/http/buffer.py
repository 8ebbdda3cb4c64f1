"""The memory for messages that are on their way: who holds how much of it, and who gives way where it is short.

Nobody is refused while there is some. Where there is none, a message that hardly moves gives way to one that comes; then the
address that holds most, and within one address the client that does, as long as that is more than whoever comes would hold.
So a thousand messages that never end cost their senders a thousand connections, and an honest update finds room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Buffer", "Held"]

_Key = TypeVar("_Key")


@dataclass(slots=True, eq=False)
class Held:
    """A message that is being received or answered. `moves` is how many bytes a second it has had lately."""

    address: str
    client: str
    size: int = 0
    moves: float = float("inf")
    whole: bool = False  # all of it has come: it gives way to nobody


class Buffer:
    """`limit` bytes for all, an eighth of them for one client; below `slow` bytes a second a message hardly moves."""

    def __init__(self, limit: int, *, slow: float) -> None:
        self.limit, self.slow = limit, slow
        self.size = 0
        self._held: set[Held] = set()
        self._addresses: dict[str, int] = {}
        self._clients: dict[tuple[str, str], int] = {}

    def take(self, held: Held, size: int) -> bool:
        """Takes so much more for a message; whether there was so much. Where there was not, ask `gives_way`."""
        if self._clients.get((held.address, held.client), 0) + size > self.limit // 8 or self.size + size > self.limit:
            return False
        self._add(held, size)
        return True

    def give_back(self, held: Held) -> None:
        """The message is answered, or has given way."""
        self._add(held, -held.size)
        self._held.discard(held)

    def gives_way(self, comer: Held, size: int) -> Held | None:
        """Whose message gives way to one that needs `size` bytes more; None where nobody's does."""
        least = self._clients.get((comer.address, comer.client), 0) + size
        if least > self.limit // 8:
            return None
        held = [one for one in self._held if one is not comer and not one.whole]
        idle = [one for one in held if one.moves < self.slow]
        if idle:
            return max(idle, key=lambda one: one.size)
        mine = self._addresses.get(comer.address, 0) + size

        def more(one: Held) -> int:
            """How much more its holder has than the comer would."""
            if one.address == comer.address:
                return self._clients[one.address, one.client] - least
            return self._addresses[one.address] - mine

        found = max(held, key=lambda one: (more(one), one.size), default=None)
        return found if found is not None and more(found) > 0 else None

    def _add(self, held: Held, size: int) -> None:
        self._held.add(held)
        held.size += size
        self.size += size
        _count(self._addresses, held.address, size)
        _count(self._clients, (held.address, held.client), size)


def _count(totals: dict[_Key, int], key: _Key, size: int) -> None:
    """Adds to one of the totals, and forgets it where nothing is left."""
    totals[key] = totals.get(key, 0) + size
    if not totals[key]:
        del totals[key]
