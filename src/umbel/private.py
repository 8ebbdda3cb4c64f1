"""Numbers for noise that protects: each is made of bytes that the operating system has just drawn.

The exception from "randomness is an address": whoever knows the address of a draw can subtract it. So there is no seed and
no state here, nothing that could be kept, journaled, sent or guessed, and no draw repeats.

numpy's own generators are no ciphers: from what PCG64 or the Mersenne twister has given, its next numbers can be computed.
The bytes of `os.urandom` are those of the kernel's cipher (ChaCha20 on Linux). What is made of them is floating point like
any noise in numpy: the last bits of a sum with such noise say something about the other summand (Mironov, "On significance
of the least significant bits for differential privacy", 2012). Round the sum to a grid that is coarse beside the noise,
where that matters.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt

__all__ = ["PrivateGenerator"]

Size = int | Sequence[int] | None
Floats = npt.NDArray[np.float64]
Numbers = float | Floats
_BLOCK = 2**17  # numbers at once: what lies about beside the result is a few MiB


class PrivateGenerator:
    """Draws from the operating system's randomness. The methods are called, and mean, what numpy's `Generator` does.

    >>> noise = PrivateGenerator().normal(0.0, 2.0, size=(3, 4))
    >>> noise.shape, noise.dtype
    ((3, 4), dtype('float64'))
    """

    __slots__ = ()

    def bytes(self, length: int) -> bytes:
        """So many random bytes."""
        return os.urandom(length)

    def random(self, size: Size = None) -> float | Floats:
        """Uniform in [0, 1): multiples of 2⁻⁵³."""
        return _fill(size, lambda count: (_words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def uniform(self, low: Numbers = 0.0, high: Numbers = 1.0, size: Size = None) -> float | Floats:
        """Uniform in [low, high)."""
        return low + np.subtract(high, low)[()] * self.random(_size_of(size, low, high))

    def standard_normal(self, size: Size = None) -> float | Floats:
        """Normal with mean 0 and standard deviation 1, by Box and Muller's method; none is further out than 9.5."""
        return _fill(size, _normal)

    def normal(self, loc: Numbers = 0.0, scale: Numbers = 1.0, size: Size = None) -> float | Floats:
        """Normal with mean `loc` and standard deviation `scale`. Raises `ValueError` for a scale below 0."""
        return loc + _positive(scale) * _fill(_size_of(size, loc, scale), _normal)

    def exponential(self, scale: Numbers = 1.0, size: Size = None) -> float | Floats:
        """Exponential with mean `scale`. Raises `ValueError` for a scale below 0."""
        return _positive(scale) * _fill(_size_of(size, scale), _exponential)

    def laplace(self, loc: Numbers = 0.0, scale: Numbers = 1.0, size: Size = None) -> float | Floats:
        """Laplace with mean `loc` and mean absolute deviation `scale`. Raises `ValueError` for a scale below 0."""
        return loc + _positive(scale) * _fill(_size_of(size, loc, scale), _laplace)

    def integers(self, low: int, high: int | None = None, size: Size = None) -> int | npt.NDArray[np.int64]:
        """Integers, each as likely as the others, from `low` to below `high`; from 0 to below `low` without one.

        Raises `ValueError` where there is none, or one has more than 63 bits.
        """
        low, high = (0, operator.index(low)) if high is None else (operator.index(low), operator.index(high))
        if not -(2**63) <= low < high <= 2**63:
            raise ValueError(f"integers from {low} to below {high}: give low < high, within 64 bits")
        if size is None:
            return low + int(_below(high - low, 1)[0])
        offsets = _below(high - low, math.prod(_shape(size))).reshape(_shape(size))
        return (offsets + np.uint64(low % 2**64)).view(np.int64)  # wraps round, as two's complement does

    def permutation(self, x: int | npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The numbers below `x`, or a copy of the array `x`, in an order that is as likely as any other."""
        array = np.arange(x) if isinstance(x, (int, np.integer)) else np.array(x)
        order = np.lexsort((_words(len(array)), _words(len(array))))  # by 128 bits each: none is there twice
        return array[order]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private generator has no state that could be kept; take context.private_rng where you draw")


def _words(count: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(os.urandom(8 * count), np.uint64)


def _above_zero(count: int) -> Floats:
    """Uniform in (0, 1]: multiples of 2⁻⁶⁴, so that the logarithm reaches far out."""
    return (_words(count).astype(np.float64) + 1.0) * 2.0**-64


def _exponential(count: int) -> Floats:
    drawn: Floats = -np.log(_above_zero(count))
    return drawn


def _laplace(count: int) -> Floats:
    signs = np.frombuffer(os.urandom(count), np.int8) >> 7  # -1 or 0
    return _exponential(count) * (2.0 * signs + 1.0)


def _normal(count: int) -> Floats:
    half = -(-count // 2)
    radius = np.sqrt(2.0 * _exponential(half))
    angle = (2.0 * np.pi * 2.0**-64) * _words(half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def _below(limit: int, count: int) -> npt.NDArray[np.uint64]:
    """Numbers from 0 to below `limit`, at most 2⁶⁴: those of as many bits, without those that are too large."""
    mask = np.uint64((1 << (limit - 1).bit_length()) - 1)
    found = _words(count) & mask
    while len(outside := np.flatnonzero(found > np.uint64(limit - 1))):
        found[outside] = _words(len(outside)) & mask
    return found


def _fill(size: Size, draw: Callable[[int], Floats]) -> float | Floats:
    """One number, or an array of this size, drawn block by block."""
    if size is None:
        return float(draw(1)[0])
    drawn = np.empty(math.prod(_shape(size)))
    for begin in range(0, len(drawn), _BLOCK):
        part = drawn[begin : begin + _BLOCK]
        part[:] = draw(len(part))
    return drawn.reshape(_shape(size))


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, (int, np.integer)) else tuple(size)


def _size_of(size: Size, *parameters: Numbers) -> Size:
    """As in numpy, arrays among the parameters ask for a number of its own for each of their places."""
    shape = np.broadcast_shapes(*(np.shape(parameter) for parameter in parameters))
    return shape if size is None and shape else size


def _positive(scale: Numbers) -> Numbers:
    if not np.all(np.asarray(scale) >= 0):
        raise ValueError(f"scale={scale!r}; give 0 or more")
    return scale
