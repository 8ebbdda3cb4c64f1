"""pandas and polars frames as splits. Neither library is imported here: who has a frame has imported its library."""

from __future__ import annotations

import sys

import numpy as np

from umbel.datasets.sources import arrays
from umbel.datasets.view import View
from umbel.errors import DataError

__all__ = ["view_of"]


def view_of(frame: object) -> View | None:
    """A view of a frame's columns; None for what is not a frame. A pandas index is not a column.

    Raises DataError for a frame without columns, or with two of one name.
    """
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    lazy = polars is not None and isinstance(frame, polars.LazyFrame)
    if lazy or not any(library is not None and isinstance(frame, library.DataFrame) for library in (pandas, polars)):
        if lazy:
            raise DataError("dataset is a polars.LazyFrame, which has no rows before it is collected: give frame.collect().")
        return None
    names = [str(name) for name in frame.columns]  # type: ignore[attr-defined]  # of pandas or polars, which mypy need not have
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise DataError(
            f"The frame has {'two columns ' + repr(twice[0]) if twice else 'no columns'}: columns are asked for by name, so "
            "give each a name of its own."
        )
    columns = frame.columns  # type: ignore[attr-defined]  # the same
    return arrays.view_of(
        {name: np.asarray(frame[column].to_numpy()) for name, column in zip(names, columns, strict=True)}  # type: ignore[index]  # the same
    )
