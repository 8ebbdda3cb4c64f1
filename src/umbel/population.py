"""Who is there: names of clients in one order, which may hold a million of them without naming one.

Knows names and numbers; knows no rounds, no sockets and no chance.

Numbers come first, by value, then all other names by their characters. So a simulation of clients 0 to 999,999 and a network
on which the same clients have the same names draw the same cohorts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
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


class _Places:
    """Places 0 to `count` - 1 but for some, which are `gone`."""

    __slots__ = ("_gaps", "count", "gone")

    def __init__(self, count: int, gone: Iterable[int] = ()) -> None:
        self.count = count
        self.gone = tuple(sorted(gone))
        self._gaps = [place - i for i, place in enumerate(self.gone)]  # how many are there before the i-th gap

    def __len__(self) -> int:
        return self.count - len(self.gone)

    def __getitem__(self, index: int) -> int:
        return index + bisect_right(self._gaps, index)

    def __iter__(self) -> Iterator[int]:
        begin = 0
        for place in (*self.gone, self.count):
            yield from range(begin, place)
            begin = place + 1

    def has(self, place: int) -> bool:
        found = bisect_left(self.gone, place)
        return 0 <= place < self.count and not (found < len(self.gone) and self.gone[found] == place)


class Clients(Sequence[str]):
    """Names in the order of a population, and nothing more: `Clients(3, ["b", "a"])` are 0, 1, 2, a and b. Immutable.

    `without` are names that are left out.

    >>> list(Clients(2, ["b", "10", "a", "1"]))
    ['0', '1', '10', 'a', 'b']
    >>> Clients(1_000_000)[999_999], Clients(1_000_000, without=["0", "2"])[1], "5" in Clients(1_000_000)
    ('999999', '3', True)
    """

    __slots__ = ("_named", "_numbers", "_others", "_places", "numbered")

    def __init__(self, numbered: int = 0, others: Iterable[str] = (), *, without: Iterable[str] = ()) -> None:
        gone = frozenset(without)
        named = {name for name in others if name not in gone and not _below(name, numbered)}
        self._begin(numbered, tuple(sorted(named, key=place_of)), gone)

    @classmethod
    def in_order(cls, numbered: int, named: tuple[str, ...], without: Iterable[str] = ()) -> Clients:
        """Of names beyond the numbered ones that have the population's order already, and are not looked at again."""
        made = cls.__new__(cls)
        made._begin(numbered, named, without)
        return made

    def _begin(self, numbered: int, named: tuple[str, ...], without: Iterable[str]) -> None:
        self.numbered = numbered
        self._named = named
        numbers, places = [], []
        for name in frozenset(without):
            number = number_of(name)
            if number is not None and number < numbered:
                numbers.append(number)
            elif (place := _place_in(named, name)) is not None:
                places.append(place)
        self._numbers = _Places(numbered, numbers)
        self._places = _Places(len(named), places)
        self._others: frozenset[str] | None = None  # made when somebody asks who is among them

    def but(self, names: Iterable[str]) -> Clients:
        """The same without some more. Shares the names: costs nothing per client."""
        already = (*map(str, self.away), *(self._named[place] for place in self._places.gone))
        return Clients.in_order(self.numbered, self._named, (*already, *names))

    @property
    def others(self) -> tuple[str, ...]:
        """The names beyond the numbered ones, in order."""
        return tuple(self._named[place] for place in self._places) if self._places.gone else self._named

    @property
    def away(self) -> tuple[int, ...]:
        """The numbers that are left out, ascending."""
        return self._numbers.gone

    def __len__(self) -> int:
        return len(self._numbers) + len(self._places)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        number = number_of(name)
        if number is not None and number < self.numbered:
            return self._numbers.has(number)
        if self._others is None:
            self._others = frozenset(self.others)
        return name in self._others

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
        first = len(self._numbers)
        return str(self._numbers[place]) if place < first else self._named[self._places[place - first]]

    def __iter__(self) -> Iterator[str]:
        yield from (str(number) for number in self._numbers)
        yield from self.others

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clients):
            return NotImplemented
        return (self.numbered, self.away, self.others) == (other.numbered, other.away, other.others)

    def __hash__(self) -> int:
        return hash((self.numbered, self.away, self.others))

    def __repr__(self) -> str:
        without = f", without={[str(number) for number in self.away]}" if self.away else ""
        return f"Clients({self.numbered}, {list(self.others)}{without})"


class _Order:
    """Names in order, and whoever was last said to be there: at hand, and no part of what a snapshot writes."""

    __slots__ = ("_clients", "_names")
    _clients: Clients | None
    _names: list[str] | None

    def _forget_order(self) -> None:
        self._clients = self._names = None

    def _in_order(self, named: Iterable[str]) -> list[str]:
        """The named clients in order, to be read; sorted where they were read from a snapshot."""
        names: list[str] | None = getattr(self, "_names", None)
        if names is None:
            self._names = names = sorted(named, key=place_of)
        return names

    def _put(self, name: str, named: Iterable[str]) -> None:
        insort(self._in_order(named), name, key=place_of)

    def _take_out(self, name: str, named: Iterable[str]) -> None:
        names = self._in_order(named)
        del names[bisect_left(names, place_of(name), key=place_of)]

    def _forget_views(self) -> None:
        self._clients = None

    def _everybody(self, numbered: int, named: Iterable[str], away: Iterable[str]) -> Clients:
        clients: Clients | None = getattr(self, "_clients", None)
        if clients is None:
            self._clients = clients = Clients.in_order(numbered, tuple(self._in_order(named)), away)
        return clients


@dataclass(slots=True)
class Population(_Order):
    """Clients as they come and go. `numbered` came as a range, the `named` one by one, `away` of the range have left.

    Who comes or goes is put into its place in the order or taken out of it, and the others stay where they are: beside
    10,000 others that takes 10 µs, where sorting all of them took 6 ms.
    """

    numbered: int = 0
    named: dict[str, None] = field(default_factory=dict)
    away: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.numbered + len(self.named) - len(self.away)

    def __contains__(self, name: str) -> bool:
        return name in self.named or (_below(name, self.numbered) and name not in self.away)

    def __iter__(self) -> Iterator[str]:
        return iter(self.present() if self.numbered else self._in_order(self.named))

    def add(self, name: str) -> None:
        """In place."""
        if name in self:
            return
        if _below(name, self.numbered):
            del self.away[name]
        else:
            self._put(name, self.named)
            self.named[name] = None
        self._forget_views()

    def add_range(self, numbered: int) -> None:
        """Adds the clients 0 to `numbered` - 1, in place."""
        self.numbered = max(self.numbered, numbered)
        self.named = {name: None for name in self.named if not _below(name, self.numbered)}
        self._forget_order()

    def remove(self, name: str) -> None:
        """In place."""
        if name in self.named:
            self._take_out(name, self.named)
            del self.named[name]
        elif _below(name, self.numbered):
            self.away[name] = None
        self._forget_views()

    def present(self, *, without: Iterable[str] = ()) -> Clients:
        """Everybody who is there, in order, but for some. Costs nothing per client where nobody has come or gone since."""
        everybody = self._everybody(self.numbered, self.named, self.away)
        left_out = [*without]
        return everybody.but(left_out) if left_out else everybody


def _below(name: str, numbered: int) -> bool:
    """Whether a name is one of the numbers from 0 to `numbered` - 1."""
    number = number_of(name)
    return number is not None and number < numbered


def _place_in(named: tuple[str, ...], name: str) -> int | None:
    """Where a name is among names in order; None where it is not."""
    place = bisect_left(named, place_of(name), key=place_of)
    return place if place < len(named) and named[place] == name else None
