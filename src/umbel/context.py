"""Where a client runs, as its code sees it: its name, what it keeps, and what it may draw from. Knows no task and no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from umbel.dialogue import Scalar
from umbel.params import NamedArrays
from umbel.private import PrivateGenerator
from umbel.rng import stream
from umbel.secret import Secret

__all__ = ["Context"]


@dataclass
class Context:
    """Where a client runs. `node_id` is its name; `state` is its own to keep between rounds: arrays, numbers, text, bytes.

    `parts` is what has come beside the model with the fit task that is done just now, by name: lists of arrays of one's own,
    which know their names. `send` answers it.

    `seed` and `round` are the place in the run that its draws belong to; None where the client has no lasting name.

    **Noise that is to protect comes from `private_rng`, and from nothing else here.** Before each task the generators of
    `random`, numpy, torch, tensorflow, mlx and mxnet are seeded from the run's seed, the client's name and the round, and
    `rng()` and `jax_key()` follow from them: everyone who knows the seed, such as the server, computes every draw and
    subtracts it. Differential privacy by such noise, be it Opacus' or ten lines of one's own, protects nothing.
    """

    node_id: str
    node_config: dict[str, Scalar] = field(default_factory=dict)
    run_config: dict[str, Scalar] = field(default_factory=dict)
    state: dict[str, object] = field(default_factory=dict)
    seed: int | None = field(default=None, compare=False)
    round: int = field(default=0, compare=False)
    make_secret: Callable[[], Secret] | None = field(default=None, repr=False, compare=False)
    parts: Mapping[str, NamedArrays] = field(default_factory=dict, repr=False, compare=False)
    sent: dict[str, Sequence[object] | Mapping[str, object]] = field(default_factory=dict, repr=False, compare=False)

    def send(self, part: str, arrays: Sequence[object] | Mapping[str, object]) -> None:
        """Sends arrays beside the model that `fit` returns, as the part of this name; the server's strategy says what
        becomes of them. Call it in `fit`, once for each of `context.parts`.

        `arrays` are a list, or a mapping of names to them, like `context.parts[part]`: as many, of the same shapes. They are
        rounded to the dtypes there, float32 or float64. What is not like that fails the task, with the reason.

        >>> context = Context("hospital-a", parts={"control": NamedArrays([np.zeros(2, "float32")], ["w"])})
        >>> context.send("control", {"w": context.parts["control"]["w"] + 1})
        """
        self.sent[part] = arrays

    def rng(self) -> np.random.Generator:
        """A generator for this task: the same draws whenever the same client does the same round of the same run.

        Everyone who knows the seed can compute them: do not use them for noise that is to protect.
        """
        return np.random.default_rng() if self.seed is None else stream(self.seed, "client", self.node_id, self.round)

    @property
    def private_rng(self) -> PrivateGenerator:
        """A generator for noise that protects: of the operating system's randomness, never of the seed, also in a
        simulation. It has no state; what is drawn from it does not repeat, and neither does a run that uses it.

        >>> len({Context("hospital-a", seed=7, round=1).private_rng.normal() for _ in range(3)})
        3
        """
        return PrivateGenerator()

    @property
    def secret(self) -> Secret:
        """This client's secret for this task: only it can compute the bytes of `secret.stream("noise", round, "model")`.
        They are the same again where a client with an identity does the same task again.

        Where nothing needs them again, `private_rng` is the better choice: a server that gives one task's name to two
        different models would get the same noise twice. In a simulation it follows from the seed, and protects nothing.
        """
        if self.make_secret is None:
            own = Secret.new()
            self.make_secret = lambda: own
        return self.make_secret()

    def __getstate__(self) -> dict[str, object]:
        """A pickle, or a copy, is without the secret."""
        return {**vars(self), "make_secret": None}

    def jax_key(self) -> object:
        """A JAX random key for this task, as `jax.random.key` makes it."""
        import jax

        return jax.random.key(int(self.rng().integers(2**63)))
