"""Who takes part. Pure functions of the clients' names and a place in the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

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


def sample(clients: Sequence[str], size: int, rng: Callable[[], np.random.RandomState]) -> list[str]:
    """`size` of the clients without repetition, sorted; the order of `clients` does not matter.

    >>> sample(["c", "a", "b"], 3, np.random.RandomState)
    ['a', 'b', 'c']
    """
    ordered = sorted(clients)
    if size >= len(ordered):
        return ordered
    return [ordered[i] for i in sorted(rng().permutation(len(ordered))[:size])]
