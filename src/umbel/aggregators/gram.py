"""Inner products between updates, from which every robust rule's plan is made. Knows blocks, no files.

K updates of a million coordinates have K² inner products, and distances, norms, angles, and the same for any mixture of
the updates, are functions of these alone. So one pass over the files is enough, whatever the rule does afterwards.

The products are in float64. They are made in tiles of 256 coordinates, 24 rows and 12 columns: a BLAS computes so small a
product in one thread, so how many it has changes no bit, and neither does who computes which block. (24 by 12, because numpy
takes a product with its own transpose to another routine, which is a quarter slower here.)
"""

from __future__ import annotations

import numpy as np

from umbel.params import NDArray

__all__ = ["TILE", "distances", "gram"]

TILE = 256
_ROWS, _COLUMNS = 24, 12


def gram(differences: NDArray) -> NDArray:
    """The inner products of the rows: shape (K, n) float64 to (K, K), where n is a multiple of `TILE`.

    >>> rows = np.zeros((2, TILE)); rows[0, :2] = 3, 4; rows[1, 0] = 2
    >>> gram(rows).tolist()
    [[25.0, 6.0], [6.0, 4.0]]
    """
    count, size = differences.shape
    tiles = differences.reshape(count, size // TILE, TILE).transpose(1, 0, 2)
    products = np.empty((count, count))
    for top in range(0, count, _ROWS):
        for left in range(0, min(top + _ROWS, count), _COLUMNS):
            some, others = tiles[:, top : top + _ROWS], tiles[:, left : left + _COLUMNS]
            part = np.add.reduce(np.matmul(some, others.transpose(0, 2, 1)), axis=0)
            products[top : top + _ROWS, left : left + _COLUMNS] = part
            if left < top:
                products[left : left + _COLUMNS, top : top + _ROWS] = part.T
    return products


def distances(products: NDArray) -> NDArray:
    """Squared distances between the rows whose inner products these are: shape (K, K), 0 on the diagonal.

    >>> distances(np.array([[25.0, 6.0], [6.0, 4.0]])).tolist()
    [[0.0, 17.0], [17.0, 0.0]]
    """
    norms = np.diagonal(products)
    squares: NDArray = np.maximum(norms[:, None] + norms[None, :] - (products + products.T), 0.0)
    np.fill_diagonal(squares, 0.0)
    return squares
