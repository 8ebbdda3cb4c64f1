"""Files that only their owner may read: keys and secrets."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import IO

__all__ = ["is_private", "make_private"]


def make_private(path: Path, data: bytes) -> None:
    """A new file with mode 600, whole or not at all, and on the disk. Raises `FileExistsError`, and other `OSError`s."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # fails where another process was faster
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            if path.exists():
                raise FileExistsError from None
            os.rename(draft, path)  # a file system without links
    finally:
        draft.unlink(missing_ok=True)


def is_private(file: IO[bytes]) -> bool:
    """Whether nobody else may read or write this open file."""
    return os.name != "posix" or not os.fstat(file.fileno()).st_mode & 0o077
