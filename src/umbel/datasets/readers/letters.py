"""Frey and Slate's letters: capital letters in 20 typefaces, distorted, as 16 numbers each."""

from __future__ import annotations

import lzma
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.cache import KnownFiles
from umbel.datasets.readers.rdata import read_frame

__all__ = ["letters"]


def letters(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """20,000 letters: x (16 numbers from 0 to 15, float64), y (0 … 25).

    The usual test set is the last 4,000. Raises DataError where the file is not in the cache.
    """
    letter, *numbers = read_frame(lzma.decompress(files.read("LetterRecognition.rda"))).values()
    return {"x": np.column_stack(numbers).astype(np.float64), "y": letter.astype(np.int64) - 1}  # R's factors count from 1
