"""Randomness as an address, never a state.

Every draw belongs to a place in the run: `stream(seed, "select", round)`. Asking for the same place twice gives the same
numbers, whatever else was drawn before, in whichever process. Nothing here touches numpy's or Python's global generators.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["frozen_stream", "key", "stream"]


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
    digest = blake2b(digest_size=16, person=b"umbel.rng.1")
    for part in (seed, *path):
        kind, text = ("i", str(int(part))) if isinstance(part, (int, np.integer)) else ("s", part)
        encoded = text.encode()
        digest.update(f"{kind}{len(encoded)}:".encode() + encoded)  # length first: ("ab", "c") is not ("a", "bc")
    return int.from_bytes(digest.digest(), "little")


def _philox(seed: int, path: tuple[int | str, ...]) -> np.random.Philox:
    return np.random.Philox(key=key(seed, *path))
