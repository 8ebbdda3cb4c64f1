"""When a round closes, and a run. Knows no clock: the coordinator compares these numbers with the time that it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from umbel.keywords import check_fields
from umbel.suggest import SuggestsKeywords
from umbel.until import Until, improves

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace(metaclass=SuggestsKeywords):
    """When an exchange with a cohort closes, and what happens when too few have answered.

    - `goal`: close as soon as this many updates are in; None waits for the whole cohort. A cohort larger than the goal is
      over-selection (Bonawitz et al. 2019, section 2.2).
    - `quorum`: the fewest updates that make a step. 0 counts a round without any update and keeps the model, as the
      classic strategies do.
    - `deadline`: seconds after which the exchange closes with what has come; None never closes by time.
    - `retries`: how often a round that misses its quorum is tried again before the run ends with `QuorumNotMet`.
    - `carry_over`: who has not answered when the goal is reached goes on, and counts in a later round. With this the rounds
      are asynchronous (Nguyen et al. 2022, FedBuff): the goal is the size of the buffer.
    - `max_staleness`: how many rounds old the version may be that a carried task started from; None for no limit.
    - `until`: what ends the run before its last round; None for nothing.
    - `keep_best`: the metric, or "loss", whose best version of the model is kept to the end beside the newest; None keeps
      none. Less is better for "loss", more for a metric. The version before the first round is not one of them.
    - `max_update_norm`: the largest norm that an update may have (the L2 norm of all that it changes); "auto" for ten times
      the median of the norms that were accepted before this round; None for no limit.
    """

    goal: int | None = None
    quorum: int = 1
    deadline: float | None = None
    retries: int = 2
    carry_over: bool = False
    max_staleness: int | None = None
    until: Until | None = None
    keep_best: str | None = None
    max_update_norm: float | str | None = None

    def within(self, seconds: float | None) -> Pace:
        """The same pace with this deadline, unless it has one of its own."""
        return self if seconds is None or self.deadline is not None else replace(self, deadline=seconds)

    @property
    def watched(self) -> tuple[str, ...]:
        """The metrics that something depends on."""
        names = (None if self.until is None else self.until.metric, self.keep_best)
        return tuple({name: None for name in names if name is not None})

    def better(self, value: float, best: float | None) -> bool:
        """Whether a version of this value is the one to keep."""
        return improves(value, best, highest=self.keep_best != "loss")

    def __post_init__(self) -> None:
        if isinstance(self.until, dict):  # as a store has written it
            object.__setattr__(self, "until", Until(**self.until))
        check_fields(self)
        if self.goal is not None and self.goal < max(self.quorum, 1):
            raise ValueError(f"goal={self.goal} is below quorum={self.quorum}: the round would close too early")
        if self.carry_over and self.goal is None:
            raise ValueError("carry_over=True needs a goal: the number of updates that make a round")
        if self.max_staleness is not None and not self.carry_over:
            raise ValueError(f"max_staleness={self.max_staleness} needs carry_over=True")
