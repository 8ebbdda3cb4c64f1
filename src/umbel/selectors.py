"""Who takes part. Pure functions of the clients' names and a place in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from umbel.population import Clients

__all__ = ["Selector", "sample", "uniform"]


class Selector(NamedTuple):
    """`size(available)` → cohort size and the number of clients needed; `pick(clients, size, rng)` → the cohort."""

    size: Callable[[int], tuple[int, int]]
    pick: Callable[[Sequence[str], int, Callable[[], np.random.RandomState]], list[str]]


def uniform(*, fraction: float, min_clients: int, min_available: int) -> Selector:
    """`max(int(available × fraction), min_clients)` clients, all equally likely, once `min_available` are there.

    >>> uniform(fraction=0.5, min_clients=2, min_available=2).size(10)
    (5, 5)
    """

    def size(available: int) -> tuple[int, int]:
        wanted = max(int(available * fraction), min_clients)
        return wanted, max(min_available, wanted)

    return Selector(size, sample)


def sample(clients: Iterable[str], size: int, rng: Callable[[], np.random.RandomState]) -> list[str]:
    """`size` of the clients without repetition, in a population's order; the order of `clients` does not matter.

    Robert Floyd's algorithm: as many draws as clients are wanted, however many there are (100 of a million: 0.2 ms, where a
    permutation takes 20 ms).

    >>> sample(["c", "a", "b"], 3, np.random.RandomState)
    ['a', 'b', 'c']
    """
    ordered = clients if isinstance(clients, Clients) else Clients(0, clients)
    if size >= len(ordered):
        return list(ordered)
    chosen: set[int] = set()
    first = len(ordered) - size
    for last, draw in enumerate(rng().random_sample(size).tolist(), first):
        pick = int(draw * (last + 1))
        chosen.add(last if pick in chosen else pick)
    return [ordered[i] for i in sorted(chosen)]
