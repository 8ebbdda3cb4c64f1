"""The generators of users' code begin where `random.seed` and `np.random.seed` would have them."""

from __future__ import annotations

import random

import numpy as np

from umbel.rng import key
from umbel.runtime.seeding import keep_generators, seed_generators


def test_an_address_seeds_as_its_key_would():
    with keep_generators():
        random.gauss(0, 1)  # the second of a pair is kept for the next time
        seed_generators(7, "client", "a", 3)
        drawn = random.gauss(0, 1), random.random(), np.random.random()
        random.seed(key(7, "client", "a", 3))
        np.random.seed(key(7, "client", "a", 3) & 0xFFFFFFFF)
        assert drawn == (random.gauss(0, 1), random.random(), np.random.random())
