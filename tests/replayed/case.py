"""A run that is recorded, without where it happens, and a tensor in a line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from exact_members import parameters, size_of

from umbel.common import NDArrays
from umbel.server.strategy import Strategy
from umbel.training import ClientFn

__all__ = ["NETWORK", "PROCESSES", "Case", "begun_on", "seconds", "tensor_text"]

PROCESSES, NETWORK = "processes", "network"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run. `strategy` makes it anew, with these keywords besides its own.

    - `dies`: the round after which it is also killed, and gone on with from what it has kept; 0 for never
    - `ways`: where else than inline it is run
    - `rough`: its float64 numbers depend on a matrix product, and are compared as float32
    """

    name: str
    strategy: Callable[..., Strategy]
    client_fn: ClientFn
    clients: int = 8
    names: Sequence[str] | None = None
    rounds: int = 4
    timeout: float | None = None
    simulated: dict[str, object] = field(default_factory=dict)  # keywords of start_simulation alone
    dies: int = 0
    ways: tuple[str, ...] = ()
    rough: bool = False

    def made(self, *, dying: Callable[[int], None] = lambda number: None, waits_for_all: bool = False) -> Strategy:
        """The strategy, which looks at each version; `dying` is called first. Over the network it waits for all clients."""

        def look(number: int, arrays: NDArrays, _: object) -> tuple[float, dict[str, object]]:
            dying(number)
            told = {f"tensor {place}": tensor_text(array, rough=self.rough) for place, array in enumerate(arrays)}
            return (size_of(arrays[0]) if arrays else 0.0), told

        everyone = {"min_available_clients": self.clients} if waits_for_all else {}
        return self.strategy(
            **everyone,
            evaluate_fn=look,
            on_fit_config_fn=lambda number: {"round": number},
            on_evaluate_config_fn=lambda number: {"round": number},
        )


def tensor_text(array: np.ndarray, *, rough: bool = False) -> str:
    """A tensor in a line: dtype, shape, digest of its bytes, first, least and largest value.

    >>> tensor_text(np.array([1.5, -2.0], "float32"))
    'float32(2) 3bc9d0e2c2a5 1.5 -2.0 1.5'
    """
    flat = np.ascontiguousarray(array).ravel()
    if rough and flat.dtype == np.float64:
        flat = flat.astype(np.float32)
    shape = ",".join(map(str, array.shape))
    digest = hashlib.sha256(flat.tobytes()).hexdigest()[:12]
    values = [_value(flat[0]), *sorted((_value(flat.min()), _value(flat.max())))] if flat.size else []
    return " ".join([f"{array.dtype}({shape})", digest, *map(str, values)])


def _value(number: np.generic) -> float | int:
    return int(number) if number.dtype.kind in "iub" else float(number)


def begun_on(kind: str, strategy: Callable[..., Strategy]) -> Callable[..., Strategy]:
    """The same strategy with this kind of model to begin with."""
    return lambda **keywords: strategy(initial_parameters=parameters(kind), **keywords)


def seconds(client: str, number: int) -> float:
    """How long a client takes for a task, on simulated time; no two come together."""
    return 1 + int(client) * 0.75 + (int(client) * 5 + number) % 3 * 0.125
