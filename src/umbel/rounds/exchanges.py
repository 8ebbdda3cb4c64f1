"""A round is a list of exchanges: the same question to many clients, and what their answers become. Knows no run.

A classic round is `ROUND`: the cohort trains, which makes a step, then a cohort evaluates. The exchanges before the one of
evaluation lead up to the step; one of them contributes the updates that it is made from, and what the others are answered
reaches the exchanges after them, and the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from umbel.pace import Pace
from umbel.rounds.messages import Kind

__all__ = ["EVALUATE", "FIRST_PARAMETERS", "FIT", "ROUND", "Contribution", "Exchange", "To", "check_round"]


class To(StrEnum):
    """Among whom an exchange chooses, of those who are there."""

    CHOSEN = "chosen"  # everybody
    SURVIVORS = "survivors"  # who has answered the exchange before it
    ASKED = "asked"  # who was asked in the exchange before it, whether they have answered or not


class Contribution(StrEnum):
    """What the answers of an exchange become."""

    PARAMETERS = "parameters"  # the first version of the model
    UPDATES = "updates"  # the next version, by a step
    ANSWERS = "answers"  # something for the exchanges after it, and for the step
    METRICS = "metrics"  # a summary of the round


class Exchange(Struct, frozen=True):
    """One question to many clients.

    - `name` tells it from the others of a round.
    - `kind`: what each client is asked to do: `Kind.PROPERTIES` its `get_properties`, `Kind.EVALUATE` its `evaluate`,
      `Kind.FIT` its `fit`.
    - `to`: among whom it chooses.
    - `contributes`: what its answers become. One of a strategy's own contributes answers.
    - `pace`: when it closes. None waits for all, or for the run's deadline; `FIT` takes the run's pace.

    >>> Exchange("keys", Kind.PROPERTIES, To.CHOSEN).contributes
    <Contribution.ANSWERS: 'answers'>
    """

    name: str
    kind: Kind
    to: To = To.CHOSEN
    contributes: Contribution = Contribution.ANSWERS
    pace: Pace | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"an exchange has a word for a name; got {self.name!r}")
        if self.pace is not None and not isinstance(self.pace, Pace):
            raise TypeError(f"Exchange({self.name!r}) was given pace={self.pace!r}; it is a Pace, such as Pace(deadline=60)")
        for value, kinds in ((self.kind, Kind), (self.to, To), (self.contributes, Contribution)):
            if not isinstance(value, kinds):
                known = ", ".join(f"{kinds.__name__}.{each.name}" for each in kinds)
                raise TypeError(f"Exchange({self.name!r}) was given {value!r}; it is one of {known}")

    def among(self, to: To) -> Exchange:
        """The same, which chooses among others: `FIT.among(To.SURVIVORS)`."""
        return replace(self, to=to)

    def under(self, pace: Pace) -> Exchange:
        """The same in a run of this pace: with a pace of its own in any case."""
        if self.pace is not None:
            return self
        updates = self.contributes is Contribution.UPDATES
        return replace(self, pace=pace if updates else Pace(quorum=0, retries=0, deadline=pace.deadline))


FIRST_PARAMETERS = Exchange("parameters", Kind.PARAMETERS, contributes=Contribution.PARAMETERS)  # before the first round
FIT = Exchange("fit", Kind.FIT, contributes=Contribution.UPDATES)
EVALUATE = Exchange("evaluate", Kind.EVALUATE, contributes=Contribution.METRICS)
ROUND = (FIT, EVALUATE)


def check_round(exchanges: Sequence[Exchange]) -> None:
    """Raises `ValueError` for a list that is no round: exchanges of which one is `FIT`, and then `EVALUATE`."""
    *before, last = exchanges
    names = [exchange.name for exchange in exchanges]
    if len({*names, FIRST_PARAMETERS.name}) <= len(names):
        raise ValueError(f"exchanges are told apart by names, which are words other than 'parameters'; got {names}")
    if last.contributes is not Contribution.METRICS or FIT.name not in names:
        raise ValueError(f"a round is exchanges of which one is FIT, and then the evaluation; got {names}")
    for exchange in before:
        updates = exchange.contributes is Contribution.UPDATES
        if updates != (exchange.name == FIT.name) or not (updates or exchange.contributes is Contribution.ANSWERS):
            raise ValueError(f"FIT contributes the updates, and {exchange.name!r} answers; got {exchange.contributes!r}")
        if exchange.kind is Kind.PARAMETERS:
            raise ValueError(f"clients are asked for first parameters by the run itself; {exchange.name!r} cannot do it")
        carries = exchange.pace is not None and exchange.pace.carry_over
        if carries and (exchange is not before[-1] or exchange.to is not To.CHOSEN):
            raise ValueError(f"a pace with carry_over=True is for FIT as the last exchange before a step; got {names[:-1]}")
    if before[0].to is not To.CHOSEN:
        raise ValueError(f"nobody was asked before the first exchange; {before[0].name!r} cannot be to {before[0].to}")
