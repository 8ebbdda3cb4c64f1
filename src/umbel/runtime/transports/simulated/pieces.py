"""What a worker is asked at once, and what it answers. Plain values, which travel between processes of one simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from umbel.aggregators import Aggregator
from umbel.door import Door
from umbel.fold import PartialSum
from umbel.params import NDArrays
from umbel.rounds.messages import Failure, Kind, Reply
from umbel.transforms import Transform
from umbel.wire import Schema

__all__ = ["Asked", "Crew", "Done", "Keep", "Lost", "Piece", "Work"]

Keep = Callable[[str, Schema, NDArrays], None]


class Work(Struct, frozen=True):
    """What every worker of a simulation knows: how to make a client, and where in the run it is."""

    client_fn: object  # what a user handed in: a ClientFn, unless it is something else
    seed: int
    population: int
    aggregator: Aggregator | None  # folds updates where it is there; otherwise each travels by itself
    makers: tuple[Callable[..., Transform], ...] = ()  # of the transforms that are the user's own: this is one program
    beside: dict[str, Aggregator] = {}  # folds what updates have beside the model, by part


class Asked(Struct, frozen=True):
    """One task of a piece."""

    index: int
    client: str
    position: int  # of the client in the population
    round: int
    config: dict[str, object]
    into: str | None = None  # the name that its parameters get
    state: bytes = b""  # what the client has kept, encoded


class Piece(Struct, frozen=True):
    """Consecutive tasks of one exchange, whose answers come together.

    `given` names the contents that go to all of them, by part. `partial` names the sum that their updates are folded into,
    in task order; None where each travels by itself. Task i is of chunk i // `chunk`; a piece has one or several, with a sum
    for each. `careful` is said where a worker has died at it: should another die, the crew ought to find out at which task.
    """

    number: int
    kind: Kind
    tasks: tuple[Asked, ...]
    given: dict[str, str]
    door: Door
    partial: str | None = None
    chunk: int = 1
    until: float | None = None  # monotonic seconds of the transport's process: later, no answer counts
    careful: bool = False


class Done(Struct):
    """A piece's answers by task index. `totals` are the sums of its updates by chunk, where they were folded."""

    number: int
    answers: dict[int, Reply | Failure]
    states: dict[int, bytes] = {}  # of those whose state has changed
    totals: dict[int, PartialSum] = {}
    surplus: dict[int, int] = {}  # how many metrics more than there was room for came with which answer
    noise: bool = False  # whether a client has asked for its secret, which is simulated


class Lost(Struct, frozen=True):
    """The worker of a piece has died, at the task with index `at` if it is known."""

    number: int
    at: int | None
    why: str


class Crew(Protocol):
    """Workers that do pieces.

    A content must stay where it is while a piece names it. Parameters that come back are put into the contents that the
    crew was given.
    """

    @property
    def slots(self) -> int:
        """How many pieces can be done at once."""

    @property
    def here(self) -> bool:
        """Whether the pieces are done by the thread that waits for them."""

    def free(self) -> bool:
        """Whether another piece would be taken on without much waiting."""

    def start(self, piece: Piece) -> None: ...

    def wait(self, timeout: float | None) -> Done | Lost | None:
        """The next outcome; None after `timeout` seconds, or when `wake` was called."""

    def wake(self) -> None:
        """Ends a `wait`, from any thread or a signal handler."""

    def drop(self, number: int) -> None:
        """Gives a piece up: no outcome of it comes any more."""

    def close(self) -> None:
        """Ends the workers. Once more does nothing."""
