"""Files that only their owner may read: keys and secrets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO

from umbel.errors import SecurityError

__all__ = ["check_private", "make_private"]


def make_private(path: Path, data: bytes) -> None:
    """A new file with mode 600, whole or not at all, and on the disk. Raises `FileExistsError`, and other `OSError`s."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails where another process was faster
    finally:
        draft.unlink(missing_ok=True)


def check_private(file: IO[bytes], what: str, path: Path) -> None:
    """Raises `SecurityError` for an open file that others may read or write."""
    if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
        raise SecurityError(f"the {what} {os.fspath(path)!r} can be read by others; chmod 600 {path}")
