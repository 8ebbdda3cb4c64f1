"""The file that keeps a secret, and which cipher makes its streams. Mode 600; no other place ever has the secret."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from umbel.errors import SecurityError
from umbel.runtime.log import logger
from umbel.runtime.security.private_files import is_private, make_private
from umbel.secret import Secret

__all__ = ["FILE", "load_secret", "read_secret"]

FILE = "secret"  # in the folder of a run
_TITLE = "umbel secret 1"


def load_secret(path: Path) -> Secret:
    """Reads the secret in this file; makes one where there is none. Raises `SecurityError` where the file cannot be used."""
    if not path.exists():
        secret = Secret.new()
        text = f"{_TITLE}\n{secret.cipher}\n{secret.export().hex()}\n"
        try:
            with contextlib.suppress(FileExistsError):
                make_private(path, text.encode())
        except OSError as error:
            raise SecurityError(f"the secret {os.fspath(path)!r} cannot be made: {error.strerror}") from None
    return read_secret(path)


def read_secret(path: Path) -> Secret:
    """Reads the secret in this file, and closes the file to others where it was open.

    Raises `SecurityError` where it is gone or damaged.
    """
    try:
        with path.open("rb") as file:
            if not is_private(file):
                with contextlib.suppress(OSError):  # another user's
                    path.chmod(0o600)
                still = "it still can be: this file system keeps no modes, or the file is not yours"
                said = "it could be until now" if is_private(file) else still
                logger.warning("The secret %s is not to be read by others, and %s", path, said)
            lines = file.read(1000).decode("ascii", "replace").splitlines()
    except OSError as error:
        raise SecurityError(f"the secret {os.fspath(path)!r} cannot be read: {error.strerror}") from None
    with contextlib.suppress(ValueError, SecurityError):  # the error shows nothing of the file: it may hold half of a secret
        title, cipher, key = lines
        if title == _TITLE:
            return Secret(bytes.fromhex(key), cipher)
    raise SecurityError(f"{os.fspath(path)!r} is not a secret as Umbel writes it; put back a copy of it")
