"""A part of a federation's data as a file or folder of its own, for one client to take away."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from umbel.datasets.cache import replace_file
from umbel.datasets.view import Rows, View
from umbel.errors import DataError

__all__ = ["save"]


def save(rows: Rows, path: Path) -> Path:
    """Write rows to `path`: a Hugging Face dataset as a folder, a view as `path`.npz; return what was written.

    Raises DataError where a column holds what is neither numbers nor text, and where the disk does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(rows, View):
            rows.save_to_disk(str(path))
            return path
        columns = {name: rows.column(name) for name in rows.column_names}
        for name, column in columns.items():
            if column.dtype.hasobject:
                if not all(isinstance(value, str) for value in column.ravel()):
                    raise DataError(f"Column {name!r} holds Python objects, and an .npz takes none: remove the column.")
                columns[name] = column.astype(str)
        written = io.BytesIO()
        np.savez(written, **columns)  # type: ignore[arg-type]  # numpy's hints take the columns for allow_pickle
        archive = path.with_name(path.name + ".npz")
        replace_file(archive, written.getvalue())
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be written: {reason}. Choose another folder, or make room.") from error
    return archive
