"""Signed HTTP requests: RFC 9421 (HTTP Message Signatures) with Ed25519, and RFC 9530 (Content-Digest) with BLAKE3.

What is signed is a list of components of the request and a nonce, so that a request counts once, for the one session, path
and body that it was made for, whoever carries it. Knows strings and bytes; knows neither sockets nor whose key it is.

    content-digest: blake3=:…:
    signature-input: umbel=("@method" "@path" "umbel-session" "content-digest");nonce="17";keyid="…";alg="ed25519"
    signature: umbel=:…:

BLAKE3 is not in the registry of RFC 9530; it takes a third of SHA-256's time (3.3 against 1.1 GB/s, measured on the machine
of docs/bench.md), and a model is large.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from umbel.errors import WireError
from umbel.runtime.security.extra import extra

if TYPE_CHECKING:
    from blake3 import blake3
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "KEY_SIZE",
    "Key",
    "Signed",
    "Window",
    "content_digest",
    "fingerprint",
    "hasher",
    "parse_digest",
    "signature_base",
    "signature_input",
    "signed_with",
    "signs",
]

KEY_SIZE = 32  # bytes of an Ed25519 key, private or public
_BASE64 = r"[A-Za-z0-9+/]*={0,2}"
_STRING = r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"'
_PARAMETER = rf";([a-z][a-z0-9_-]*)=({_STRING}|-?\d{{1,15}})"
_LABEL = r"([a-z*][a-z0-9_.*-]*)"
_INPUT = re.compile(rf'{_LABEL}=(\(((?:"[a-z@-]+"(?: "[a-z@-]+")*)?)\)((?:{_PARAMETER})*))')
_SIGNATURE = re.compile(rf"{_LABEL}=:({_BASE64}):")
_DIGEST = re.compile(rf"blake3=:({_BASE64}):")
_LONGEST = 4096  # bytes of either header


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature of a request: the names of what it covers, its parameters, both as they were written, and itself."""

    components: tuple[str, ...]
    parameters: Mapping[str, str]
    text: str
    signature: bytes


class Key:
    """A private Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        with extra("Identities"):
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        self._private: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


def signs(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether this key has signed these bytes."""
    with extra("Identities"):
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A short name for a public key: 32 hexadecimal digits of its BLAKE3."""
    return hasher(public).hexdigest()[:32]


def hasher(data: bytes | bytearray = b"") -> blake3:
    """A BLAKE3 that has had these bytes."""
    with extra("Identities"):
        from blake3 import blake3
    return blake3(data)


def content_digest(parts: Iterable[bytes | memoryview]) -> str:
    """The header `content-digest` of a body."""
    digest = hasher()
    for part in parts:
        digest.update(part)
    return f"blake3=:{base64.b64encode(digest.digest()).decode()}:"


def parse_digest(header: str) -> bytes:
    """The BLAKE3 digest that a `content-digest` names; b"" where there is none."""
    match = _DIGEST.search(header[:_LONGEST])
    return b"" if match is None else _decode(match[1])


def signature_input(names: Iterable[str], *, nonce: str, key: str) -> str:
    """The value of `signature-input` for these components.

    >>> signature_input(["@method", "@path"], nonce="17", key="ab")
    '("@method" "@path");nonce="17";keyid="ab";alg="ed25519"'
    """
    listed = " ".join(f'"{name}"' for name in names)
    return f'({listed});nonce="{nonce}";keyid="{key}";alg="ed25519"'


def signature_base(components: Iterable[tuple[str, str]], parameters: str) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5).

    >>> print(signature_base([("@method", "POST"), ("@path", "/v1/next")], "(...)").decode())
    "@method": POST
    "@path": /v1/next
    "@signature-params": (...)
    """
    lines = [f'"{name}": {value}' for name, value in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("utf-8", "surrogateescape")


def signed_with(inputs: str, signatures: str) -> dict[str, Signed]:
    """The signatures of a request by their labels, from its headers `signature-input` and `signature`.

    Raises `WireError` for headers that are not such.
    """
    if len(inputs) > _LONGEST or len(signatures) > _LONGEST:
        raise WireError("the signature's headers are too long")
    found = {match[1]: _decode(match[2]) for match in _items(_SIGNATURE, signatures, "signature")}
    told = {}
    for match in _items(_INPUT, inputs, "signature-input"):
        label, text, names, parameters = match[1], match[2], match[3], match[4]
        values = {name: value.strip('"') for name, value in re.findall(_PARAMETER, parameters)}
        components = tuple(name.strip('"') for name in names.split())
        if len(set(components)) != len(components):
            raise WireError("the header signature-input names a component twice")
        if label in found:
            told[label] = Signed(components, values, text, found[label])
    return told


def _items(pattern: re.Pattern[str], header: str, name: str) -> list[re.Match[str]]:
    items: list[re.Match[str]] = []
    at = 0
    while at < len(header):
        match = pattern.match(header, at)
        if match is None or (at and match[1] in {item[1] for item in items}):
            raise WireError(f"the header {name} cannot be read from its {at + 1}. character on")
        items.append(match)
        rest = re.compile(r"\s*,\s*").match(header, match.end())
        if rest is None and match.end() != len(header):
            raise WireError(f"the header {name} cannot be read from its {match.end() + 1}. character on")
        at = len(header) if rest is None else rest.end()
    return items


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireError("a signature or digest is not in base64") from None


class Window:
    """Which numbers have been used: each counts once, and none that is far behind the newest (as in RFC 6479).

    >>> window = Window()
    >>> [window.takes(number) for number in (1, 3, 2, 3, 10**6, 4)]
    [True, True, True, False, True, False]
    """

    SIZE = 1024

    def __init__(self) -> None:
        self._newest = 0
        self._seen = 0  # bit n: newest - n

    def takes(self, number: int) -> bool:
        """Whether this is the number's first time; it is used from now on."""
        ahead = number - self._newest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & (1 << self.SIZE) - 1 if ahead < self.SIZE else 1
            self._newest = number
            return True
        if -ahead >= self.SIZE or number < 0 or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True
