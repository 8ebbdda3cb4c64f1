"""Who is there: names of clients in one order, which may hold a million of them without naming one.

Knows names and numbers; knows no rounds, no sockets and no chance.

Numbers come first, by value, then all other names by their characters. So a simulation of clients 0 to 999,999 and a network
on which the same clients have the same names draw the same cohorts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

__all__ = ["Clients", "Population", "number_of", "place_of"]

MAX_DIGITS = 18


def number_of(name: str) -> int | None:
    """The number that a name is, if it is written as `str` would write it.

    >>> number_of("12"), number_of("012"), number_of("site-12")
    (12, None, None)
    """
    plain = name.isascii() and name.isdecimal() and len(name) <= MAX_DIGITS and (name[0] != "0" or name == "0")
    return int(name) if plain else None


def place_of(name: str) -> tuple[int, int, str]:
    """Sorts names as a population has them."""
    number = number_of(name)
    return (1, 0, name) if number is None else (0, number, "")


class Clients(Sequence[str]):
    """Names in the order of a population, and nothing more: `Clients(3, ["b", "a"])` are 0, 1, 2, a and b. Immutable.

    `without` are names that are left out.

    >>> list(Clients(2, ["b", "10", "a", "1"]))
    ['0', '1', '10', 'a', 'b']
    >>> Clients(1_000_000)[999_999], Clients(1_000_000, without=["0", "2"])[1], "5" in Clients(1_000_000)
    ('999999', '3', True)
    """

    __slots__ = ("_away", "_gaps", "_others", "_set", "numbered")

    def __init__(self, numbered: int = 0, others: Iterable[str] = (), *, without: Iterable[str] = ()) -> None:
        self.numbered = numbered
        gone = frozenset(without)
        away = sorted(number for name in gone if (number := number_of(name)) is not None and number < numbered)
        self._away = frozenset(away)
        self._gaps = [number - i for i, number in enumerate(away)]  # places before which the i-th gap lies
        self._set = frozenset(name for name in others if name not in gone and not self._in_range(name))
        self._others = tuple(sorted(self._set, key=place_of))

    @property
    def others(self) -> tuple[str, ...]:
        """The names beyond the numbered ones, in order."""
        return self._others

    @property
    def away(self) -> tuple[int, ...]:
        """The numbers that are left out, ascending."""
        return tuple(sorted(self._away))

    def __len__(self) -> int:
        return self.numbered - len(self._away) + len(self._others)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._set or self._is_numbered(name))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"client {index} of {len(self)}")
        first = self.numbered - len(self._away)
        return str(place + bisect_right(self._gaps, place)) if place < first else self._others[place - first]

    def __iter__(self) -> Iterator[str]:
        yield from (str(number) for number in range(self.numbered) if number not in self._away)
        yield from self._others

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clients):
            return NotImplemented
        return (self.numbered, self._away, self._others) == (other.numbered, other._away, other._others)

    def __hash__(self) -> int:
        return hash((self.numbered, self._away, self._others))

    def __repr__(self) -> str:
        without = f", without={sorted(map(str, self._away), key=place_of)}" if self._away else ""
        return f"Clients({self.numbered}, {list(self._others)}{without})"

    def _is_numbered(self, name: str) -> bool:
        number = number_of(name)
        return number is not None and number < self.numbered and number not in self._away

    def _in_range(self, name: str) -> bool:
        number = number_of(name)
        return number is not None and number < self.numbered


@dataclass(slots=True)
class Population:
    """Clients as they come and go. `numbered` came as a range, the `named` one by one, `away` of the range have left."""

    numbered: int = 0
    named: dict[str, None] = field(default_factory=dict)
    away: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.numbered + len(self.named) - len(self.away)

    def __contains__(self, name: str) -> bool:
        return name in self.named or (self._in_range(name) and name not in self.away)

    def __iter__(self) -> Iterator[str]:
        return iter(self.present())

    def add(self, name: str) -> None:
        """In place."""
        if self._in_range(name):
            self.away.pop(name, None)
        else:
            self.named[name] = None

    def add_range(self, numbered: int) -> None:
        """Adds the clients 0 to `numbered` - 1, in place."""
        self.numbered = max(self.numbered, numbered)
        self.named = {name: None for name in self.named if not self._in_range(name)}

    def remove(self, name: str) -> None:
        """In place."""
        if name in self.named:
            del self.named[name]
        elif self._in_range(name):
            self.away[name] = None

    def present(self, *, without: Iterable[str] = ()) -> Clients:
        """Everybody who is there, in order, but for some. Costs nothing per numbered client that is there."""
        return Clients(self.numbered, self.named, without=[*self.away, *without])

    def _in_range(self, name: str) -> bool:
        number = number_of(name)
        return number is not None and number < self.numbered
