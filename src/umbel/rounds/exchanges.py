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
    """One question to many clients. `kind` is what each is asked to do, `name` tells it from the others of a round.

    `pace` says when it closes; None takes the run's, of which only the deadline is for exchanges that make no updates.
    """

    name: str
    kind: Kind
    to: To = To.CHOSEN
    contributes: Contribution = Contribution.ANSWERS
    pace: Pace | None = None

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
    """Raises `ValueError` for a list that is no round: the exchanges of a step, of which one has the updates, and that of
    evaluation.
    """
    *before, last = exchanges
    names = [exchange.name for exchange in exchanges]
    if len({*names, FIRST_PARAMETERS.name}) <= len(names) or not all(name.isidentifier() for name in names):
        raise ValueError(f"exchanges are told apart by names, which are words other than 'parameters'; got {names}")
    contributed = [str(exchange.contributes) for exchange in before]
    if contributed.count(Contribution.UPDATES) != 1 or set(contributed) - {Contribution.UPDATES, Contribution.ANSWERS}:
        raise ValueError(f"one exchange of a step contributes updates, the others contribute answers; got {contributed}")
    if last.contributes is not Contribution.METRICS:
        raise ValueError(f"the last exchange of a round is that of evaluation; got {last.name}")
    if before[0].to is not To.CHOSEN:
        raise ValueError(f"nobody was asked before the first exchange; {before[0].name} is to {before[0].to}")
    for exchange in before:
        if exchange.pace is not None and exchange.pace.carry_over and len(before) > 1:
            raise ValueError(f"carry_over=True is for rounds of one exchange; this one has {', '.join(names[:-1])}")
