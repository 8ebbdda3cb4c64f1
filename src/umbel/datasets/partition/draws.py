"""Chance that is the same on every machine: log, exp, normal, gamma and Dirichlet without a mathematics library.

`RandomState.dirichlet` calls the C library's log and pow, whose last bits differ from one library to the next, and a
last bit can move a row to another client. Here all is addition, multiplication, division and square root, one at a time
on arrays of float64: IEEE 754 rounds each of them in one way only. The raw draws are `RandomState.random_sample`, which
numpy has frozen (NEP 19) and which is a shift and a product. Sums are `cumsum`, or of integers: the order in which
`np.sum` adds is not promised. Knows no rows and no clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "IntArray", "dirichlet_weights", "exp", "log", "log_gamma", "normal", "total", "weights_of_logs"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

_LN2 = 0.6931471805599453
_LN2_HIGH = 0.693147180369123816490  # 33 bits of ln 2: whole multiples up to 2**20 are exact
_LN2_LOW = 1.90821492927058770002e-10
_ATANH = tuple(1 / (2 * k + 1) for k in range(12))
_TAYLOR = (
    1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880, 1 / 3628800,
    1 / 39916800, 1 / 479001600, 1 / 6227020800,
)  # fmt: skip
_UNIT = float(2**40)


def log(x: FloatArray) -> FloatArray:
    """The natural logarithm of positive finite `x`, to about 2 units in the last place.

    >>> bool(abs(log(np.array([10.0]))[0] - 2.302585092994046) < 1e-15)
    True
    """
    fraction, exponent = np.frexp(x)
    low = fraction < 0.7071067811865476
    fraction = np.where(low, fraction * 2, fraction)  # now within √½ … √2
    s = (fraction - 1) / (fraction + 1)
    found: FloatArray = (exponent - low) * _LN2 + 2 * s * _horner(_ATANH, s * s)
    return found


def exp(x: FloatArray) -> FloatArray:
    """e to the power of `x` ≤ 700, to about 2 units in the last place; 0 below −700.

    >>> exp(np.array([0.0, -800.0])).tolist()
    [1.0, 0.0]
    """
    bounded = np.maximum(x, -700.0)
    times = np.rint(bounded / _LN2)
    rest = (bounded - times * _LN2_HIGH) - times * _LN2_LOW
    return np.where(x < -700, 0.0, np.ldexp(_horner(_TAYLOR, rest), times.astype(np.int32)))


def total(x: FloatArray) -> float:
    """The sum of `x`, added from left to right.

    >>> total(np.array([1.0, 2.0, 3.5]))
    6.5
    """
    return float(np.cumsum(x)[-1]) if len(x) else 0.0


def normal(rng: np.random.RandomState, size: int) -> FloatArray:
    """`size` standard normal draws: one uniform each, through the inverse of the distribution function.

    Wichura (1988), "The percentage points of the normal distribution", Applied Statistics 37, algorithm AS 241.
    """
    p = (np.floor(rng.random_sample(size) * 2.0**52) + 0.5) / 2.0**52  # never 0, never 1
    q = p - 0.5
    r = 0.180625 - q * q
    drawn = q * _horner(_MIDDLE[0], r) / _horner(_MIDDLE[1], r)
    outside = np.flatnonzero(np.abs(q) > 0.425)
    tail = np.sqrt(-log(np.minimum(p[outside], 1 - p[outside])))
    near = _horner(_NEAR[0], tail - 1.6) / _horner(_NEAR[1], tail - 1.6)
    far = _horner(_FAR[0], tail - 5) / _horner(_FAR[1], tail - 5)
    drawn[outside] = np.sign(q[outside]) * np.where(tail <= 5, near, far)
    return drawn


def log_gamma(rng: np.random.RandomState, shape: FloatArray) -> FloatArray:
    """The logarithms of draws from Gamma(shape, 1), one for each positive entry of `shape` (one dimension).

    Logarithms, because at shape 0.001 most draws are smaller than the smallest float64. Marsaglia and Tsang (2000),
    "A simple method for generating gamma variables", ACM TOMS 26(3), with their step for shape < 1.
    """
    small = shape < 1
    d = np.where(small, shape + 1, shape) - 1 / 3
    c = 1 / (3 * np.sqrt(d))
    drawn = np.empty(len(shape))
    pending = np.arange(len(shape))
    while len(pending):
        x = normal(rng, len(pending))
        u = 1 - rng.random_sample(len(pending))
        root = 1 + c[pending] * x
        possible = root > 0
        v = np.where(possible, root * root * root, 1.0)
        log_v, at = log(v), d[pending]
        taken = possible & (log(u) < 0.5 * x * x + at - at * v + at * log_v)
        drawn[pending[taken]] = (log(at) + log_v)[taken]
        pending = pending[~taken]
    boost = log(1 - rng.random_sample(len(shape)))
    return drawn + np.where(small, boost / shape, 0.0)


def weights_of_logs(logs: FloatArray) -> IntArray:
    """Integers from 1 to 2⁴⁰+1 in proportion to e^`logs`, along the last axis. Never 0: every share can be had."""
    return (exp(logs - logs.max(axis=-1, keepdims=True)) * _UNIT).astype(np.int64) + 1


def dirichlet_weights(rng: np.random.RandomState, alpha: FloatArray, rows: int) -> IntArray:
    """`rows` draws from Dirichlet(alpha) as integer weights, shape (rows, len(alpha)). Each row has its own sum."""
    drawn = np.empty((rows, len(alpha)), dtype=np.int64)
    block = max(1, 2**16 // len(alpha))  # part of the definition; keeps the work arrays at half a megabyte each
    for start in range(0, rows, block):
        count = min(block, rows - start)
        logs = log_gamma(rng, np.tile(alpha, count)).reshape(count, len(alpha))
        drawn[start : start + count] = weights_of_logs(logs)
    return drawn


def _horner(coefficients: Sequence[float], x: FloatArray) -> FloatArray:
    """c₀ + c₁x + c₂x² + …"""
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value *= x
        value += coefficient
    return value


# AS 241, PPND16: numerator and denominator, lowest power first.
_MIDDLE = (
    (3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_NEAR = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip
