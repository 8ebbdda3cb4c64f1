"""Seeds the generators that users' code draws from, so that ordinary code repeats. The only place that touches global ones.

Knows which libraries have one; imports none of them: a library that is not imported yet has drawn nothing yet.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from umbel.rng import key

__all__ = ["keep_generators", "seed_generators"]

_RANDOM = random._inst  # what `random.random` and the others draw from


def seed_generators(seed: int, *path: int | str) -> None:
    """Seeds `random`, numpy's global generator and, where they are imported, torch, tensorflow, mlx and mxnet.

    14 µs for the first two. JAX has no global generator: `Context.jax_key()` gives a client its key.
    """
    number = key(seed, *path)
    _seed_random(number)
    np.random.seed(number & 0xFFFFFFFF)
    for name, seed_library in _LIBRARIES.items():
        if name in sys.modules:
            seed_library(sys.modules[name], number)


def _seed_random(number: int) -> None:
    """As `random.seed` does, which looks first what kind of seed it is: half of its time, 4 us of a simulated task's 90."""
    super(random.Random, _RANDOM).seed(number)
    _RANDOM.gauss_next = None  # type: ignore[attr-defined]  # its stub does not have it


def _torch(torch: Any, number: int) -> None:
    # `manual_seed` notes the stack for each kind of device that is not in use yet: 0.4 to 4 ms, where the other takes 4 µs.
    seed = torch.default_generator.manual_seed if _only_processors(torch) else torch.manual_seed
    seed(number & (2**63 - 1))


@cache
def _only_processors(torch: Any) -> bool:
    """Whether torch has no device with a generator of its own here. Does not initialize CUDA, which would forbid a fork."""
    if not hasattr(torch, "accelerator"):  # before 2.6
        return False
    kind = torch.accelerator.current_accelerator()  # that this torch is built for
    return kind is None or (kind.type == "cuda" and torch.cuda.device_count() == 0)


def _tensorflow(tensorflow: Any, number: int) -> None:
    tensorflow.random.set_seed(number & (2**63 - 1))


def _mlx(mlx: Any, number: int) -> None:
    mlx.random.seed(number & (2**63 - 1))


def _mxnet(mxnet: Any, number: int) -> None:
    mxnet.random.seed(number & (2**31 - 1))


_LIBRARIES: dict[str, Callable[[Any, int], None]] = {
    "torch": _torch,
    "tensorflow": _tensorflow,
    "mlx.core": _mlx,
    "mxnet": _mxnet,
}


@contextlib.contextmanager
def keep_generators() -> Iterator[None]:
    """Whatever is seeded inside, `random`, numpy's global generator and torch's go on afterwards where they were before."""
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(state)
