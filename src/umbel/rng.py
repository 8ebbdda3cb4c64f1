"""Randomness as an address, never a state.

Every draw belongs to a place in the run: `stream(seed, "select", round)`. Asking for the same place twice gives the same
numbers, whatever else was drawn before, in whichever process. Nothing here touches numpy's or Python's global generators.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from hashlib import blake2b

import numpy as np

__all__ = ["address", "frozen_stream", "key", "stream"]


def stream(seed: int, *path: int | str) -> np.random.Generator:
    """The generator for one place in a run: a Philox counter keyed by a hash of `seed` and `path`.

    Making one costs about 25 µs, so make it where it is used. numpy promises the numbers of a `Generator` for one
    numpy build only; where they must outlive an upgrade (partitions, sampling), use `frozen_stream`.

    >>> a, b = stream(7, "select", 3), stream(7, "select", 3)
    >>> int(a.integers(1000)) == int(b.integers(1000))
    True
    """
    return np.random.Generator(_philox(seed, path))


def frozen_stream(seed: int, *path: int | str) -> np.random.RandomState:
    """As `stream`, with the methods whose numbers numpy has frozen for good (NEP 19).

    >>> frozen_stream(7, "shuffle").permutation(5).tolist()
    [3, 1, 0, 4, 2]
    """
    return np.random.RandomState(_philox(seed, path))


def key(seed: int, *path: int | str) -> int:
    """128 bits for one place in a run, for generators of others' making. Costs 2 µs.

    >>> key(7, "client", "a", 3) == key(7, "client", "a", 3) != key(7, "client", "a", 4)
    True
    """
    return int.from_bytes(blake2b(address(seed, *path), digest_size=16, person=b"umbel.rng.1").digest(), "little")


def address(*path: int | str) -> bytes:
    """A place in a run as bytes: no two places have the same. Raises `TypeError` for other parts than numbers and texts.

    >>> address("ab", "c"), address("a", "bc")
    (b's2:abs1:c', b's1:as2:bc')
    """
    return b"".join([_part(part) for part in path])


@lru_cache(maxsize=4096, typed=True)  # thousands of places share their seed, their purpose, their round or their client
def _part(part: int | str) -> bytes:
    if isinstance(part, str):
        encoded = part.encode()
        return b"s%d:%b" % (len(encoded), encoded)  # length first: ("ab", "c") is not ("a", "bc")
    try:
        number = b"%d" % operator.index(part)
    except TypeError:  # 1.5 would be the place of 1, and its draws the same
        raise TypeError(f"a place in a run is whole numbers and texts; got {part!r}") from None
    return b"i%d:%b" % (len(number), number)


def _philox(seed: int, path: tuple[int | str, ...]) -> np.random.Philox:
    return np.random.Philox(key=key(seed, *path))
