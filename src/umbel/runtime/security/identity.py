"""A client's identity: a key of its own, kept in a file, and the token by which it joins. Needs the extra `security`."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from umbel.errors import SecurityError
from umbel.runtime.security.extra import extra
from umbel.runtime.security.private_files import is_private, make_private
from umbel.runtime.security.signatures import KEY_SIZE, Key, content_digest, fingerprint, signature_base, signature_input

__all__ = ["FOLDER", "TOKEN", "Identity", "new_token", "token_key"]

FOLDER = "umbel-identity"
TOKEN = "UMBEL_JOIN_TOKEN"  # the environment's name for `start_client(join_token=)`
_PREFIX = "umbel-join-"


class Identity:
    """The key in `path`, made where there is none; locked, so that one process at a time has it.

    Raises `SecurityError` where the file is no such key, is open to others, or another process has it.
    """

    def __init__(self, path: Path, join_token: str | None = None) -> None:
        path = path.absolute()  # users' code may change the working folder
        self.path = path
        self._token = None if join_token is None else token_key(join_token)
        self._file = _open(path)
        try:
            self._key = Key(_read(self._file, path))
        except BaseException:
            self._file.close()
            raise
        self.public = self._key.public
        self.fingerprint = fingerprint(self.public)
        self.token = b"" if self._token is None else self._token.public
        self._numbers = itertools.count(1)

    def sign(
        self, method: str, path: str, session: str, *, body: Iterable[bytes | memoryview] | None, range_: str | None
    ) -> dict[str, str]:
        """The headers that make a request this identity's own."""
        components = [("@method", method), ("@path", path), ("umbel-session", session)]
        if range_ is not None:
            components.append(("range", range_))
        headers = {}
        if body is not None:
            headers["content-digest"] = content_digest(body)
            components.append(("content-digest", headers["content-digest"]))
        return headers | self._sign(components, str(next(self._numbers)), {"umbel": self._key})

    def join(self, method: str, path: str, body: bytes, challenge: str) -> dict[str, str]:
        """The headers of a registration: signed with this key, and with the token's where there is one."""
        digest = content_digest([body])
        components = [("@method", method), ("@path", path), ("content-digest", digest)]
        keys = {"umbel": self._key} | ({} if self._token is None else {"join": self._token})
        return {"content-digest": digest, **self._sign(components, challenge, keys)}

    def close(self) -> None:
        """Lets another process have the key."""
        self._file.close()

    def _sign(self, components: list[tuple[str, str]], nonce: str, keys: dict[str, Key]) -> dict[str, str]:
        inputs, signatures = [], []
        for label, key in keys.items():
            names = [name for name, _ in components]
            text = signature_input(names, nonce=nonce, key=self.fingerprint if key is self._key else fingerprint(key.public))
            signature = base64.b64encode(key.sign(signature_base(components, text))).decode()
            inputs.append(f"{label}={text}")
            signatures.append(f"{label}=:{signature}:")
        return {"signature-input": ", ".join(inputs), "signature": ", ".join(signatures)}


def new_token() -> tuple[str, bytes]:
    """A join token, and the public key that a server keeps of it; the token cannot be computed from that."""
    seed = secrets.token_bytes(KEY_SIZE)
    return _PREFIX + base64.urlsafe_b64encode(seed).decode().rstrip("="), Key(seed).public


def token_key(text: str) -> Key:
    """The key that a token is. It signs, and never travels: whoever listens cannot join in the token's name."""
    bare = text.strip()
    if not bare.startswith(_PREFIX):
        raise SecurityError(f"a join token begins with {_PREFIX!r}; `umbel server token` prints one")
    try:
        seed = base64.urlsafe_b64decode(bare.removeprefix(_PREFIX) + "=")
    except ValueError:
        seed = b""
    if len(seed) != KEY_SIZE:
        raise SecurityError("the join token is not whole; `umbel server token` prints one of 54 characters")
    return Key(seed)


def _open(path: Path) -> IO[bytes]:
    """The key's file, locked."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _make(path)
        file = path.open("rb")
    except OSError as error:
        raise SecurityError(f"the key {os.fspath(path)!r} cannot be made or read: {error.strerror}") from None
    try:
        import fcntl
    except ImportError:  # not on this platform: two processes with one key are the operator's to avoid
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SecurityError(
            f"another process has the key {os.fspath(path)!r}; give each client a client_id=, or an identity=, of its own"
        ) from None
    return file


def _make(path: Path) -> None:
    """A new key, whole or not at all. Raises `FileExistsError`."""
    with extra("Identities"):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    if path.exists():
        raise FileExistsError
    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    make_private(path, data)


def _read(file: IO[bytes], path: Path) -> bytes:
    with extra("Identities"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    if not is_private(file):
        raise SecurityError(f"the key {os.fspath(path)!r} can be read by others; chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(file.read(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SecurityError(f"{os.fspath(path)!r} is no Ed25519 key in PEM; remove it, and a new one is made")
    return key.private_bytes_raw()
