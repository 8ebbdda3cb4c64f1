"""A client that grows trees, for every framework whose model is a booster. Knows no framework and no rounds.

A booster travels as bytes. Where the strategy says how many clients grow trees beside each other (bagging), a client sends
its new trees alone, grown at that part of the learning rate; otherwise (cyclic) it sends the whole booster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from umbel.context import Context
from umbel.dialogue import Config, Metrics, Parameters
from umbel.frameworks.data import make_data, makes_data
from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady
from umbel.params import Blob, NamedArrays, NDArray, NDArrays, as_arrays
from umbel.strategies.boosting import BOOSTERS
from umbel.training import NumPyClient

__all__ = ["BoosterClient", "Library", "bytes_of"]

B = TypeVar("B")  # a framework's booster
Rows = TypeVar("Rows")  # a framework's table


class Library(Protocol[B, Rows]):
    """What a framework says about its boosters."""

    def rows_of(self, data: object, params: Mapping[str, object]) -> Rows:
        """The framework's table of (X, y), or of its own kind."""
        ...

    def count(self, rows: Rows) -> int:
        """How many rows."""
        ...

    def grow(self, params: Mapping[str, object], rows: Rows, rounds: int, booster: B | None, beside: int | None) -> B:
        """The booster with trees of so many rounds more. `beside`: how many clients grow some at the same time, or None."""
        ...

    def newest(self, booster: B, rounds: int) -> B:
        """The trees of the last so many rounds alone."""
        ...

    def to_bytes(self, booster: B) -> bytes: ...

    def from_bytes(self, raw: bytes, params: Mapping[str, object]) -> B: ...

    def measure(self, booster: B, rows: Rows) -> tuple[float, Metrics]:
        """Loss and metrics."""
        ...


class BoosterClient(NumPyClient, Generic[B, Rows]):
    """A client whose model is a booster; `train` and `test` are rows, or functions of its number that give some."""

    stands_for_many = True

    def __init__(
        self, library: Library[B, Rows], params: Mapping[str, object], train: object, test: object, rounds: int
    ) -> None:
        if not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"rounds={rounds!r}; a client grows trees for one round or more in each of the federation")
        self._library, self._params, self._rounds = library, dict(params), rounds
        self._sources = {"train": train, "test": test}
        self._rows: dict[str, Rows] = {}

    def __call__(self, context: Context) -> BoosterClient[B, Rows]:
        """The client of this context: one object stands for many."""
        client = BoosterClient(self._library, self._params, self._sources["train"], self._sources["test"], self._rounds)
        client.context = context
        if not any(map(makes_data, self._sources.values())):
            client._rows = self._rows  # the same rows for all of them: made once
        return client

    def __getstate__(self) -> dict[str, object]:
        """A pickle has the rows as they were given: a framework's own table may not travel."""
        return {**vars(self), "_rows": {}}

    def model_maker(self, seed: int) -> Callable[[NamedArrays], B]:
        """How a booster is made of the parameters of a run: `history.model` of a simulation."""
        return lambda parameters: self._library.from_bytes(bytes_of(parameters), self._params)

    def fit(self, parameters: NDArrays, config: Config) -> tuple[list[bytes], int, Metrics]:
        rows, present = self._table("train"), self._present(parameters)
        beside = config.get(BOOSTERS)
        grown = self._library.grow(self._params, rows, self._rounds, present, beside if isinstance(beside, int) else None)
        sent = grown if beside is None else self._library.newest(grown, self._rounds)
        return [self._library.to_bytes(sent)], self._library.count(rows), {}

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, Metrics]:
        present = self._present(parameters)
        if self._sources["test"] is None or present is None:
            return float("nan"), 0, {}  # a number that is missing
        rows = self._table("test")
        loss, metrics = self._library.measure(present, rows)
        return loss, self._library.count(rows), metrics

    def _present(self, parameters: NDArrays) -> B | None:
        return self._library.from_bytes(bytes_of(parameters), self._params) if len(parameters) else None

    def _table(self, name: str) -> Rows:
        if name not in self._rows:
            source = self._sources[name]
            data = make_data(source, self.context or Context("client")) if makes_data(source) else source
            self._rows[name] = self._library.rows_of(data, self._params)
        return self._rows[name]


def bytes_of(parameters: Mapping[str, object] | Sequence[object] | Parameters) -> bytes:
    """A booster's bytes from parameters. Raises `ParametersNotReady` where there are none, `ParametersMismatch` for others.

    >>> bytes_of({"booster.bytes": b"trees"}), bytes_of([b"trees"])
    (b'trees', b'trees')
    """
    if isinstance(parameters, Parameters):
        parameters = parameters.arrays()
    values: Sequence[NDArray] = as_arrays(list(parameters.values()) if isinstance(parameters, Mapping) else parameters)
    if not values:
        raise ParametersNotReady("there is no booster so far: the run's first round grows the first trees")
    blobs = [bytes(value) for value in values if isinstance(value, Blob)]
    if len(values) != 1 or len(blobs) != 1:
        raise ParametersMismatch(f"a booster is one array of bytes; got {len(values)} arrays, {len(blobs)} of them bytes")
    return blobs[0]


def params_given(params: object, framework: str) -> Mapping[str, object]:
    """Raises `TypeError` for what are no parameters of a booster."""
    if isinstance(params, Mapping):
        return params
    raise TypeError(f"params= is a {type(params).__name__}; give {framework}'s parameters as a dict")


def check_rows(data: object, kind: str) -> tuple[object, object]:
    """X and y. Raises `TypeError` for anything else."""
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return data[0], data[1]
    raise TypeError(f"rows are (X, y) or {kind}; got {type(data).__name__}")


