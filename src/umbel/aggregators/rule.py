"""Rules that need all updates of a round at once. Knows blocks and inner products; knows no files, clients or rounds.

Nearly every robust rule of the literature is two steps. A *plan* mixes the updates: a matrix with a column per update, made
from the inner products between them (`gram.py`) and nothing else. Then the planned rows are *reduced* to one, coordinate by
coordinate. Krum plans one row with a single 1, the geometric median one row of weights; the median needs no plan; Bulyan
plans the rows that Krum selects and reduces them around their median; and mixing before a rule is a product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from umbel.aggregators.coordinatewise import Reduce
from umbel.aggregators.gram import distances
from umbel.errors import TooFewUpdates
from umbel.params import NDArray

__all__ = ["Cohort", "Plan", "Rule"]


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a plan is made from.

    - `gram`: inner products of the updates' differences to the version that the clients started from, float64,
      shape (K + G, K + G); the last G rows are guides, which no client sent: the server's own update, or the last result
    - `weights`: of the K updates, shape (K,)
    - `guides`: G
    - `rng`: makes the generator of this round's draws, the same each time
    - `far`: rows too long for float64, shape (K + G,); their inner products stand as 0, and they are far from everything
    """

    gram: NDArray
    weights: NDArray
    guides: int
    rng: Callable[[], np.random.RandomState]
    far: NDArray

    @classmethod
    def of(cls, gram: NDArray, weights: NDArray, guides: int, rng: Callable[[], np.random.RandomState]) -> Cohort:
        """The cohort with these inner products, finite or not."""
        far = ~np.isfinite(np.diagonal(gram))
        return cls(np.where(far[:, None] | far[None, :], 0.0, gram), weights, guides, rng, far)

    @property
    def count(self) -> int:
        """K, the number of updates."""
        return len(self.gram) - self.guides

    @property
    def distances(self) -> NDArray:
        """Squared distances between the updates, shape (K, K); infinite to and from one that is far."""
        squares = distances(self.gram[: self.count, : self.count])
        far = self.far[: self.count]
        squares[(far[:, None] | far[None, :]) & ~np.eye(self.count, dtype=bool)] = np.inf
        return squares

    def lengths_from(self, point: NDArray) -> NDArray:
        """‖xᵢ − z‖ for every update, where z is the mixture `point` of shape (K + G,) of all rows: shape (K,)."""
        along = self.gram @ point
        squares = np.maximum(np.diagonal(self.gram) - 2 * along + point @ along, 0.0)
        return np.where(self.far, np.inf, np.sqrt(squares))[: self.count]

    def mixed(self, matrix: NDArray) -> Cohort:
        """The cohort of R mixtures of the updates; `matrix`, of shape (R + G, K + G), passes the guides on."""
        weights = matrix[: len(matrix) - self.guides, : self.count] @ self.weights
        far = (matrix[:, self.far] != 0).any(axis=1)
        return Cohort(matrix @ self.gram @ matrix.T, weights, self.guides, self.rng, far)


Plan = Callable[[Cohort], NDArray]


class Rule(NamedTuple):
    """A way of combining updates that needs all of them at once.

    - `name`: what it is, with its numbers
    - `least(f)`: how many updates it needs, and `why` in words
    - `plan(cohort)` → matrix of shape (R, K + G), the rows to be reduced as mixtures of the differences; None: the updates
      as they are, and no inner products are needed
    - `reduce(rows)` → one row from rows of shape (R, n), which it may overwrite, coordinate by coordinate; None: R is 1
    - `keeps`: the combined difference is kept, and is the last guide the next time (zeros the first time)

    Distances and plans are of the floating tensors; of all tensors where none is floating. What is planned then holds for
    every tensor: integers are rounded half to even, booleans are true above one half.
    """

    name: str
    least: int
    why: str
    plan: Plan | None = None
    reduce: Reduce | None = None
    keeps: bool = False

    def check(self, count: int) -> None:
        """Raises `TooFewUpdates` where `count` updates are too few for the rule's promise."""
        if count < self.least:
            raise TooFewUpdates(f"{self.name} needs {self.why}, which is {self.least} updates at least; there are {count}")
