"""Two small tables of UCI's, from the files that scikit-learn ships."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.cache import KnownFiles

__all__ = ["breast_cancer", "digits"]


def digits(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """1,797 digits: x (8×8, uint8 from 0 to 16), y (0 … 9). Raises DataError where the file is not in the cache."""
    table = np.loadtxt(files.read("digits.csv").decode("ascii").splitlines(), delimiter=",")
    return {"x": table[:, :-1].astype(np.uint8).reshape(-1, 8, 8), "y": table[:, -1].astype(np.int64)}


def breast_cancer(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """569 tumours: x (30 measurements, float64), y (0 malignant, 1 benign).

    Raises DataError where the file is not in the cache.
    """
    table = np.loadtxt(files.read("breast_cancer.csv").decode("ascii").splitlines()[1:], delimiter=",")
    return {"x": table[:, :-1].copy(), "y": table[:, -1].astype(np.int64)}
