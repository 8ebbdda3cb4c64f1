"""The server's step: what the combined update does to the model. Knows blocks of coordinates, no files and no clients.

Integers and booleans take the combined value as it is; an optimizer sees floating tensors only. Some optimizers remember:
their *slots* are vectors as long as the model's floating tensors, zero before the first step, float32 (float64 for a model
that has float64 tensors). They are kept on the server with the version that they belong to; a client is sent those of parts
beside the model (`umbel.fold.Part`), and no other.

All arithmetic is float64, rounded once to the model's dtype and once to the slot's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from umbel.errors import StrategyError
from umbel.params import NDArray
from umbel.wire import short

__all__ = ["Optimizer", "Rate", "adagrad", "adam", "checked_factor", "momentum", "sgd", "yogi"]

# A learning rate, or one for each round: a function of the round's number, from 1 on. It returns a finite number, 0 or more.
Rate = float | Callable[[int], float]


class Optimizer(NamedTuple):
    """A step of the server, and the names of what it remembers.

    `step(round, old, combined, slots)` → (new block, new slots). Blocks have shape `(n,)`; the new one has the dtype of
    `combined`. `old()` reads the same block of the version that the clients started from; a step that has no use for it
    does not call it, and saves the reading. `slots` has a block per name, float64, and so has the answer. `replaces` says
    that the combined update is always the new model, so that nobody has to keep the old one for it.
    """

    step: Callable[[int, Callable[[], NDArray], NDArray, Sequence[NDArray]], tuple[NDArray, Sequence[NDArray]]]
    slots: tuple[str, ...] = ()
    replaces: bool = False


def sgd(learning_rate: Rate = 1.0) -> Optimizer:
    """x ← x + η·Δ with Δ = combined − x (Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 1 with SGD).

    With η = 1 the combined update itself is the new model, to the last bit.

    >>> new, _ = sgd(0.5).step(1, lambda: np.array([0.0, 2.0]), np.array([1.0, 4.0]), [])
    >>> new.tolist()
    [0.5, 3.0]
    """
    rate = _rate(learning_rate)

    def step(
        number: int, old: Callable[[], NDArray], combined: NDArray, slots: Sequence[NDArray]
    ) -> tuple[NDArray, Sequence[NDArray]]:
        eta = rate(number)
        if eta == 1.0:
            return combined, ()
        before, delta = _difference(old, combined)
        return (before + eta * delta).astype(combined.dtype), ()

    return Optimizer(step, replaces=learning_rate == 1.0)


def momentum(learning_rate: Rate = 1.0, beta: float = 0.9) -> Optimizer:
    """m ← β·m + Δ; x ← x + η·m (Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution", FedAvgM).

    As flwr's FedAvgM: no damping of Δ, no Nesterov.

    >>> new, (m,) = momentum(beta=0.5).step(1, lambda: np.array([1.0]), np.array([2.0]), [np.array([4.0])])
    >>> new.tolist(), m.tolist()
    ([4.0], [3.0])
    """
    _part("beta", beta)
    rate = _rate(learning_rate)

    def step(
        number: int, old: Callable[[], NDArray], combined: NDArray, slots: Sequence[NDArray]
    ) -> tuple[NDArray, Sequence[NDArray]]:
        before, delta = _difference(old, combined)
        m = beta * slots[0] + delta
        return (before + rate(number) * m).astype(combined.dtype), (m,)

    return Optimizer(step, ("momentum",))


def adagrad(learning_rate: Rate = 0.1, tau: float = 1e-9) -> Optimizer:
    """v ← v + Δ²; x ← x + η·Δ / (√v + τ) (Reddi et al. 2021, Algorithm 2, FedAdagrad, with β₁ = 0 as in flwr)."""
    return _adaptive(learning_rate, 0.0, tau, lambda v, square: v + square)


def adam(learning_rate: Rate = 0.1, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-9) -> Optimizer:
    """m ← β₁·m + (1 − β₁)·Δ; v ← β₂·v + (1 − β₂)·Δ²; x ← x + ηₜ·m / (√v + τ) (Reddi et al. 2021, Algorithm 2, FedAdam).

    ηₜ = η·√(1 − β₂ᵗ⁺¹) / (1 − β₁ᵗ⁺¹) with t the round's number corrects the bias of zero slots, as flwr does; the exponent
    t + 1 is flwr's, where Kingma and Ba (2015) have t, and the algorithm of the paper has no correction.
    """
    rate, unbiased = _rate(learning_rate), _unbiased(_part("beta_1", beta_1), _part("beta_2", beta_2))
    return _adaptive(
        lambda number: rate(number) * unbiased(number), beta_1, tau, lambda v, square: beta_2 * v + (1 - beta_2) * square
    )


def yogi(learning_rate: Rate = 0.01, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3) -> Optimizer:
    """m as in `adam`; v ← v − (1 − β₂)·Δ²·sign(v − Δ²); x ← x + η·m / (√v + τ) (Reddi et al. 2021, Algorithm 2, FedYogi)."""
    _part("beta_2", beta_2)
    return _adaptive(learning_rate, beta_1, tau, lambda v, square: v - (1 - beta_2) * square * np.sign(v - square))


def _adaptive(
    learning_rate: Rate, beta_1: float, tau: float, second: Callable[[NDArray, NDArray], NDArray]
) -> Optimizer:
    """The three of Algorithm 2: they differ in how v goes on from the squared difference. v starts from 0, in the paper from
    at least τ².
    """
    rate = _rate(learning_rate)
    _part("beta_1", beta_1)
    if not tau >= 0:
        raise ValueError(f"tau={tau}; it is added to a square root, 0 or more")

    def step(
        number: int, old: Callable[[], NDArray], combined: NDArray, slots: Sequence[NDArray]
    ) -> tuple[NDArray, Sequence[NDArray]]:
        before, delta = _difference(old, combined)
        v = second(slots[-1], delta * delta)
        m = beta_1 * slots[0] + (1 - beta_1) * delta if beta_1 else delta
        scale = np.sqrt(v) + tau
        moved = np.divide(rate(number) * m, scale, out=np.zeros_like(m), where=scale > 0)  # nothing has moved so far: 0/0
        return (before + moved).astype(combined.dtype), ((m, v) if beta_1 else (v,))

    return Optimizer(step, ("m", "v") if beta_1 else ("v",))


def _difference(old: Callable[[], NDArray], combined: NDArray) -> tuple[NDArray, NDArray]:
    before = old().astype(np.float64)
    return before, combined.astype(np.float64) - before


def _unbiased(beta_1: float, beta_2: float) -> Callable[[int], float]:
    return lambda number: math.sqrt(1 - beta_2 ** (number + 1)) / (1 - beta_1 ** (number + 1))


def _rate(learning_rate: Rate) -> Callable[[int], float]:
    if callable(learning_rate):
        return _checked(learning_rate)
    if not hasattr(learning_rate, "__float__") or not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate!r}; it must be a number above 0, or a function of the round")
    return lambda _: learning_rate


def _checked(schedule: Callable[[int], object]) -> Callable[[int], float]:
    """The same schedule; 0 is a round without a step. Raises `StrategyError`."""
    return lambda number: checked_factor(schedule(number), "the schedule of the learning rate", f"round {number}")


def checked_factor(given: object, what: str, asked: str) -> float:
    """What a function of the owner's has returned, as a plain number.

    What is none is said to be the function's, not the clients'. Raises `StrategyError`.
    """
    try:
        value = given.item() if hasattr(given, "item") else given  # a scalar of numpy's or torch's
        found = float(value) if isinstance(value, int | float) else math.nan
    except (ValueError, RuntimeError, OverflowError):  # more than one number; a number without end
        found = math.nan
    if not 0 <= found < math.inf:
        raise StrategyError(f"{what} returned {short(given)} for {asked}; return a finite number, 0 or more")
    return found


def _part(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}; it is the part of the past that is kept, at least 0 and below 1")
    return value
