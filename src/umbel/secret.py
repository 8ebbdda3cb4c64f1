"""Bytes that only the holder of a key can compute, anywhere and again: noise that has an address.

The exception to "randomness is an address of a seed that all may know". `private.py` draws numbers that cannot be drawn
again. The holder of a secret can make its bytes again: any block, in any process, also after a restart.

    subkey = BLAKE2b-256, keyed with the secret, of (cipher, purpose, round, part)
    stream = AES-256 in counter mode under the subkey, or SHAKE-256 of the subkey and a counter; byte n of it has address n

The two ciphers make different streams, so a secret knows which one is its. A secret refuses to be shown, copied or pickled.

**The same noise on two different sums is no noise**: their difference has none. So what a run or a client keeps is never
used as it is, but a secret that is derived from it for exactly one thing: the answers of these tasks, or this task.
"""

from __future__ import annotations

import operator
import os
from hashlib import blake2b, shake_256
from importlib.util import find_spec
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from umbel.errors import SecurityError
from umbel.rng import address

__all__ = ["AES", "CIPHERS", "KEY_SIZE", "SHAKE", "Secret", "Simulated", "Stream", "aes_ctr", "shake_ctr", "usual_cipher"]

AES = "AES-256-CTR"
SHAKE = "SHAKE-256"
CIPHERS = (AES, SHAKE)
KEY_SIZE = 32  # bytes
_PERSON = b"umbel.secret.1"
_AES_BLOCK = 16  # bytes
_SHAKE_BLOCK = 64 * 136  # bytes; 136 come out of each permutation


class Secret:
    """256 bits, and the cipher that makes streams of them. `simulated`: they follow from a seed, and protect nothing."""

    __slots__ = ("_key", "cipher", "simulated")

    def __init__(self, key: bytes, cipher: str, *, simulated: bool = False) -> None:
        """Raises `SecurityError` for a key of another size, or a cipher that is not known."""
        if not isinstance(key, bytes) or len(key) != KEY_SIZE or cipher not in CIPHERS:
            size = f"{len(key)} bytes" if isinstance(key, bytes) else f"a {type(key).__name__}"
            raise SecurityError(f"a secret is {KEY_SIZE} bytes and {AES} or {SHAKE}; got {size}, {str(cipher)[:40]!r}")
        self._key, self.cipher, self.simulated = key, cipher, simulated

    @classmethod
    def new(cls) -> Secret:
        """A new secret, from the operating system's randomness."""
        return cls(os.urandom(KEY_SIZE), usual_cipher())

    def derive(self, *path: int | str) -> Secret:
        """A secret for one thing, from which this one cannot be computed.

        >>> one, other = (Secret(bytes(32), SHAKE).derive("task", name) for name in ("a", "b"))
        >>> one.stream("noise", 1, "model").read(0, 8) == other.stream("noise", 1, "model").read(0, 8)
        False
        """
        key = blake2b(address("derive", *path), digest_size=KEY_SIZE, key=self._key, person=_PERSON).digest()
        return Secret(key, self.cipher, simulated=self.simulated)

    @classmethod
    def of_seed(cls, seed: int, *path: int | str) -> Secret:
        """The secret that a simulation uses for that of `path`: everyone who knows the seed knows it.

        >>> one, other = Secret.of_seed(7, "server"), Secret.of_seed(7, "server")
        >>> one.stream("noise", 3, "model").read(0, 8) == other.stream("noise", 3, "model").read(0, 8)
        True
        """
        key = blake2b(address(seed, *path), digest_size=KEY_SIZE, person=b"umbel.simulated").digest()
        return cls(key, SHAKE, simulated=True)  # the standard library has it everywhere: a seed means the same bits

    def stream(self, purpose: str, number: int, part: str) -> Stream:
        """The bytes for a purpose, such as "noise", in round `number`, for a part of an update, such as "model".

        Streams of different addresses have nothing to do with each other.
        """
        where = address(self.cipher, purpose, number, part)
        return Stream(blake2b(where, digest_size=KEY_SIZE, key=self._key, person=_PERSON).digest(), self.cipher)

    def export(self) -> bytes:
        """The key itself, for the file that keeps it, and for nothing else."""
        return self._key

    def __repr__(self) -> str:
        return f"<a secret for {self.cipher}{', simulated' if self.simulated else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled: it stays where it is kept")


class Simulated:
    """Gives the secret that a simulation uses for that of `path`; `used` tells whether it was asked for."""

    __slots__ = ("_path", "_seed", "used")

    def __init__(self, seed: int, *path: int | str) -> None:
        self._seed, self._path, self.used = seed, path, False

    def __call__(self) -> Secret:
        self.used = True
        return Secret.of_seed(self._seed, *self._path)


class Stream:
    """2⁶⁴ bytes, of which any can be read by their address, in any order."""

    __slots__ = ("_cipher", "_subkey")

    def __init__(self, subkey: bytes, cipher: str) -> None:
        self._subkey, self._cipher = subkey, cipher

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from address `start` on.

        Raises `ValueError` for addresses that there are not, and `SecurityError` where the cipher's package is missing.
        """
        start, size = operator.index(start), operator.index(size)  # numpy's integers wrap around
        if start < 0 or size < 0 or start + size > 2**64:
            raise ValueError(f"bytes {start} to {start + size} of a stream: it has those from 0 to 2**64 - 1")
        block, keystream = (_AES_BLOCK, aes_ctr) if self._cipher == AES else (_SHAKE_BLOCK, shake_ctr)
        first, skipped = divmod(start, block)
        return keystream(self._subkey, first, skipped + size)[skipped:]

    def words(self, start: int, size: int) -> npt.NDArray[np.uint64]:
        """The words of coordinates `start` to `start + size`, 64 bits for each: shape `(size,)`, read-only."""
        start, size = 8 * operator.index(start), 8 * operator.index(size)
        return np.frombuffer(self.read(start, size), "<u8").astype(np.uint64, copy=False)

    def __repr__(self) -> str:
        return f"<a stream of {self._cipher}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled: make it where it is used, of the secret")


def usual_cipher() -> str:
    """The cipher for a new secret: AES where the package cryptography is installed, which is several times as fast."""
    return SHAKE if find_spec("cryptography") is None else AES


def aes_ctr(key: bytes, counter: int, size: int) -> bytes:
    """`size` bytes of AES-256 in counter mode (NIST SP 800-38A, 6.5), of which the first counter block is `counter`."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES as Aes
        from cryptography.hazmat.primitives.ciphers.modes import CTR
    except ImportError as error:
        raise SecurityError(
            f"this secret makes its streams by {AES}, which needs the package cryptography ({error}): "
            "pip install 'umbel[security]'"
        ) from None
    return Cipher(Aes(key), CTR(counter.to_bytes(_AES_BLOCK, "big"))).encryptor().update(bytes(size))


def shake_ctr(key: bytes, counter: int, size: int) -> bytes:
    """`size` bytes of SHAKE-256 (FIPS 202) of key and counter, in blocks of 8,704 bytes, of which the first is `counter`."""
    blocks = range(counter, counter + -(-size // _SHAKE_BLOCK))
    made = b"".join([shake_256(key + block.to_bytes(8, "little")).digest(_SHAKE_BLOCK) for block in blocks])
    return made[:size]
