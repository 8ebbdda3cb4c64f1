"""The random inputs of the comparison with byzfl, made from their number: 5 to 25 updates of 1 to 4 coordinates."""

from __future__ import annotations

import numpy as np

COUNT = 1000


def case(number):
    """The updates, float64 of shape (n, d), and the number of attackers f: n ≥ 2f + 3, and f of the updates are far off."""
    draw = np.random.RandomState(number)
    n, d = int(draw.randint(5, 26)), int(draw.randint(1, 5))
    f = int(draw.randint(0, (n - 3) // 2 + 1))
    updates = draw.standard_normal((n, d)) + draw.standard_normal(d)
    updates[draw.permutation(n)[:f]] += 10.0 ** draw.randint(0, 4) * draw.standard_normal(d)
    return updates, f
