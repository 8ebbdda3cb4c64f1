"""How far a run's journal goes, said beside its contents: a database that has lost its end, or all of it, does not know.

SQLite takes a damaged -wal file for a shorter one, and an empty database for a new one. So the run's folder has a mark,
from the first commit to the end of the run: the numbers of the last entry and of the last round that were committed. It is
written after each commit, in place, and is not flushed.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import NamedTuple

from umbel.errors import StoreError

__all__ = ["IN_FOLDER", "Far", "Mark"]

IN_FOLDER = "journal.mark"  # of a run whose database is in the folder of its folder
_ELSEWHERE = "journal-elsewhere.mark"
_FORM = struct.Struct("<qq")


class Far(NamedTuple):
    """How far a journal goes: its last entry, and the rounds that its newest snapshot has."""

    entry: int = 0
    rounds: int = 0


class Mark:
    """The mark in a run's folder. `database` is the database's file, where it is one."""

    def __init__(self, folder: Path, database: str | None) -> None:
        here = database is not None and Path(database).parent == folder.absolute().parent
        self.path = folder / (IN_FOLDER if here else _ELSEWHERE)
        self._fd = -1

    def read(self) -> Far:
        """What was marked last; nothing where there is no mark."""
        with contextlib.suppress(OSError, struct.error):
            return Far(*_FORM.unpack(self.path.read_bytes()))
        return Far()

    def write(self, far: Far) -> None:
        """Raises `StoreError` where the folder is gone."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._fd, _FORM.pack(*far), 0)  # 2 µs
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
