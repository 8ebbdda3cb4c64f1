"""A round's results: the round, which is the same for all of them, and what is each one's own.

A run lends its round to the strategy for the time of a question. Knows schemas and places to read from; knows no files, no
journal and no client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from umbel.fold import Memory, PartialSum, Spread, forgetful
from umbel.params import NDArrays, Params
from umbel.secret import Secret
from umbel.wire import Schema, Source

if TYPE_CHECKING:
    from umbel.dialogue.parameters import Parameters
    from umbel.dialogue.scalars import Metrics

__all__ = ["Provenance", "Result", "Round", "current_round", "lent"]


class Provenance(NamedTuple):
    """Where one update comes from: its task, by number, and the version that it started from.

    `staleness` is how many rounds have passed since that version, and `origin` is that version where it is not the newest.
    An update that its worker has added up with others is part of `total`; `weights` are of all that are in it, by the
    numbers of their tasks. `beside` has what an update brought beside the model, by part.
    """

    task: int
    staleness: int = 0
    origin: tuple[Schema, Source] | None = None
    total: PartialSum | None = None
    weights: Mapping[int, float] = {}
    round: Round | None = None
    beside: Mapping[str, tuple[Schema, Source]] = {}


class Result(NamedTuple):
    """What one client has answered in an exchange.

    `parameters` are None where it was asked for none; `metrics` are its properties where it was asked for those; `loss` is
    NaN where it did not evaluate.
    """

    client: str
    num_examples: int
    metrics: Metrics
    parameters: Parameters | None = None
    loss: float = math.nan
    provenance: Provenance = Provenance(0)

    @property
    def staleness(self) -> int:
        """How many rounds have passed since the version that the client started from."""
        return self.provenance.staleness

    @property
    def unfit(self) -> str:
        """Why it cannot be combined with others, where that is known; "" otherwise."""
        return "" if self.parameters is None else self.parameters.unfit

    def arrays(self) -> NDArrays:
        """What the client sent, one array per tensor; they are in memory from then on."""
        return [] if self.parameters is None else self.parameters.arrays()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round, as far as it is the same for all of its updates.

    - `number`: of the round, from 1 on
    - `base`: the newest version of the model; None where there is none, or it is not known
    - `cohort`: how many clients were asked
    - `facts`: what the strategy remembers in numbers
    - `answers`: of the exchanges of this round that have closed, by their names, in the order of tasks
    - `seed`: the run's; `secret()` gives the one for noise on exactly these updates
    - `transform_facts`: what the transforms of the base's updates go by
    - `memory`: what an optimizer remembers beside the base; `spread` is a `map` that computes several blocks at a time
    - `provenances`: of each client's update, for one whose parameters somebody has replaced
    - `keep`: is given what is made, where no run keeps it
    """

    number: int
    base: tuple[Schema, Source] | None = None
    cohort: int = 0
    facts: Mapping[str, bool | int | float] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Result]] = field(default_factory=dict)
    seed: int = 0
    secret: Callable[[], Secret] = Secret.new
    transform_facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    memory: Memory = forgetful()  # noqa: RUF009  # a value
    spread: Spread = map
    provenances: dict[str, Provenance] = field(default_factory=dict)
    keep: Callable[[Parameters], None] | None = None

    def arrays(self) -> NDArrays | None:
        """The newest version in memory: a copy; None where it is not known."""
        if self.base is None:
            return None
        schema, source = self.base
        params = Params.empty(schema)
        source(0, params.buffer.data)
        return params.arrays()


_lent: ContextVar[Round | None] = ContextVar("umbel_round", default=None)


@contextmanager
def lent(round_: Round) -> Iterator[None]:
    """Lends a round to whatever is asked inside, in this thread.

    >>> with lent(Round(number=3)):
    ...     current_round().number
    3
    """
    token = _lent.set(round_)
    try:
        yield
    finally:
        _lent.reset(token)


def current_round() -> Round | None:
    """The round that is lent now; None outside of a run's questions. `current_round().secret()` is its secret, for noise."""
    return _lent.get()
