"""Who takes part. Pure functions of the clients' names and a place in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from umbel.keywords import checked
from umbel.population import Clients

__all__ = ["Selector", "everyone", "only", "sample", "uniform", "weighted"]


class Selector(NamedTuple):
    """`size(available)` → cohort size and the number of clients needed; `pick(clients, size, rng)` → the cohort."""

    size: Callable[[int], tuple[int, int]]
    pick: Callable[[Sequence[str], int, Callable[[], np.random.RandomState]], list[str]]


@checked
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


@checked
def everyone(*, min_available: int = 1) -> Selector:
    """All clients that are there, once `min_available` are.

    >>> everyone().size(7)
    (7, 7)
    """
    return Selector(lambda available: (available, max(min_available, available)), sample)


@checked
def weighted(
    weight: Callable[[str], float], *, fraction: float, min_clients: int, min_available: int
) -> Selector:
    """As `uniform`, but a client is drawn with a chance in proportion to its weight, without repetition.

    By exponential clocks (Efraimidis and Spirakis 2006): client i rings at −ln(uᵢ)/wᵢ, and the first to ring are drawn. A
    client of weight 0 is drawn only where there are not enough others.

    >>> heavy = weighted(lambda name: 1.0 if name == "b" else 1e-9, fraction=0, min_clients=1, min_available=1)
    >>> heavy.pick(["a", "b", "c"], 1, lambda: np.random.RandomState(0))
    ['b']
    """
    size = uniform(fraction=fraction, min_clients=min_clients, min_available=min_available).size

    def pick(clients: Sequence[str], wanted: int, rng: Callable[[], np.random.RandomState]) -> list[str]:
        ordered = list(clients) if isinstance(clients, Clients) else list(Clients(0, clients))
        weights = np.array([weight(name) for name in ordered], np.float64)
        if not (weights >= 0).all() or not np.isfinite(weights).all():
            raise ValueError("the weights of clients are finite numbers, 0 or more")
        with np.errstate(divide="ignore"):
            rings = -np.log1p(-rng().random_sample(len(ordered))) / weights
        return [ordered[i] for i in sorted(np.argsort(rings, kind="stable")[:wanted])]

    return Selector(size, pick)


@checked
def only(able: Callable[[str], bool], selector: Selector) -> Selector:
    """`selector` among the clients whose name is `able`; the sizes are those of all that are there.

    >>> odd = only(lambda name: int(name) % 2 == 1, everyone())
    >>> odd.pick(["1", "2", "3"], 3, np.random.RandomState)
    ['1', '3']
    """

    def pick(clients: Sequence[str], wanted: int, rng: Callable[[], np.random.RandomState]) -> list[str]:
        return selector.pick([name for name in clients if able(name)], wanted, rng)

    return Selector(selector.size, pick)
