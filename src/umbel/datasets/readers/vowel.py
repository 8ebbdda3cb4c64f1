"""Deterding's vowels: 15 people say 11 vowels, 6 times each."""

from __future__ import annotations

import lzma
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.cache import KnownFiles
from umbel.datasets.readers.rdata import read_frame

__all__ = ["vowel"]


def vowel(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """990 utterances: x (9 log area parameters, float64), y (0 … 10), speaker (0 … 14).

    The usual test set is speakers 8 and up. Raises DataError where the file is not in the cache.
    """
    frame = read_frame(lzma.decompress(files.read("Vowel.rda")))
    speaker, *numbers, vowel = frame.values()
    return {
        "x": np.column_stack(numbers).astype(np.float64),
        "y": vowel.astype(np.int64) - 1,  # R's factors count from 1
        "speaker": speaker.astype(np.int64) - 1,
    }
