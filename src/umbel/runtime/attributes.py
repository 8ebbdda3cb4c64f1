"""Which attributes of a user's own strategy change while a run is on: what a resumed run does not bring back.

Looks at the strategy after each exchange. Sees numbers, texts, arrays, and lists, dicts and objects of them, two deep and as
far as their last hundred items; another object is known by where it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import islice

import numpy as np

from umbel.events import Event, ExchangeClosed

__all__ = ["Attributes"]

_DEEP = 2
_ITEMS = 100
_BYTES = 1 << 20  # of an array
# Set by Umbel, or by programs that give their parameters once.
_OURS = {"initial_parameters", "_standalone", "filled", "facts", "_first_facts"}


class Attributes:
    """Tells `tell` the names of all attributes that have changed, whenever there is one more."""

    def __init__(self, strategy: object, tell: Callable[[list[str]], None]) -> None:
        self._strategy = strategy
        self._tell = tell
        self._known: set[str] = set()
        own = not type(strategy).__module__.startswith("umbel.")
        self._before = self._looks() if own else None

    def observe(self, event: Event) -> None:
        if self._before is None or not isinstance(event, ExchangeClosed):
            return
        now = self._looks()
        changed = {name for name in self._before.keys() | now.keys() if self._before.get(name) != now.get(name)}
        if changed - self._known:
            self._known |= changed
            self._tell(sorted(self._known))

    def _looks(self) -> dict[str, object]:
        held = getattr(self._strategy, "__dict__", {})
        return {name: _look(value, _DEEP) for name, value in list(held.items()) if name not in _OURS}


def _look(value: object, deep: int) -> object:
    """What tells a value from itself after it has changed."""
    match value:
        case None | bool() | int() | float() | complex():
            return type(value).__name__, repr(value)  # NaN is not equal to itself
        case str() | bytes() | bytearray():
            return type(value).__name__, len(value), hash(bytes(value) if isinstance(value, bytearray) else value)
        case np.ndarray():
            part = np.ascontiguousarray(value.reshape(-1)[: _BYTES // max(value.itemsize, 1)])
            return value.shape, value.dtype.str, id(value) if value.dtype.hasobject else zlib.crc32(part.tobytes())
        case Mapping() if deep:
            return type(value).__name__, len(value), _last(value.items(), len(value), deep)
        case Set() if deep:
            return type(value).__name__, len(value), frozenset(map(repr, islice(value, _ITEMS)))
        case Sequence() if deep:
            return type(value).__name__, len(value), _last(value, len(value), deep)
        case _:
            held = getattr(value, "__dict__", None)
            inside = _last(held.items(), len(held), deep) if isinstance(held, dict) and deep and not callable(value) else ()
            return type(value).__name__, id(value), inside


def _last(items: Iterable[object], count: int, deep: int) -> tuple[object, ...]:
    return tuple(_look(item, deep - (not isinstance(item, tuple))) for item in islice(items, max(count - _ITEMS, 0), None))
