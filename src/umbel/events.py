"""What an observer is told of a run: frozen values, in the order in which things happened.

    def watch(event: fl.events.Event) -> None:
        if isinstance(event, fl.events.RoundClosed):
            print(event.round, event.loss, event.metrics)

    fl.server.start_server(observers=[watch])

`at` is run time in seconds: it stands still while no server runs, and is simulated time where a simulation has `durations=`.
`round` is 0 before the first one. `kind` is "fit", "evaluate", "parameters" where a client is asked for those that the run
begins with, or the name of an exchange of the strategy's own ("candidates"). Sizes are in bytes. docs/observers.md says what
is told again after a resume, and what a slow observer costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "CentrallyEvaluated",
    "ClientJoined",
    "ClientLeft",
    "CohortChosen",
    "Event",
    "ExchangeClosed",
    "ModelInitialized",
    "Observer",
    "PopulationJoined",
    "RoundClosed",
    "RoundStarted",
    "RunEnded",
    "RunInterrupted",
    "RunResumed",
    "RunRewound",
    "RunStarted",
    "TaskAnswered",
    "TaskFailed",
    "TaskSent",
    "VersionMade",
    "WaitingForClients",
]

Reason: TypeAlias = Literal["raised", "rejected", "late", "left", "empty", "died", "lost"]


# ---- the run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A new run begins."""

    at: float
    run: str
    num_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    """This process goes on with a run, in `round`, with `version` of the model (None: there is none so far)."""

    at: float
    run: str
    round: int
    num_rounds: int
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRewound:
    """The newest version of the model was lost: what was told of `round` and later ones is done again, from `version` on."""

    at: float
    round: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted:
    """This process leaves a run that has not ended, by SIGTERM or an error: the last event. `why` names the error."""

    at: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run is over after so many rounds: the last event.

    "finished": it came to its end; "stopped": its owner ended it; "failed": `start_server` raises what `why` says.
    """

    at: float
    rounds: int
    status: Literal["finished", "stopped", "failed"]
    why: str


# ---- clients


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientJoined:
    """A client is there; `available` are, with it."""

    at: float
    client: str
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationJoined:
    """All clients of a simulation are there."""

    at: float
    clients: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLeft:
    """A client is gone."""

    at: float
    client: str
    available: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForClients:
    """The run waits until `needed` clients are there."""

    at: float
    round: int
    available: int
    needed: int


# ---- a round


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInitialized:
    """The run has parameters to begin with: those of the client `source`; None where the strategy gave them, "" where nobody
    has any, so that the model is empty.
    """

    at: float
    source: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted:
    """A round begins."""

    at: float
    round: int
    num_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortChosen:
    """These clients, out of `available`, are asked to do something. `attempt` grows where nothing came of the one before."""

    at: float
    round: int
    kind: str
    attempt: int
    clients: tuple[str, ...]
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSent:
    """A client is asked; `version` of the model, or parameters of its own, travel with it: so many bytes, 0 for none.

    `again`: the task was under way when an earlier process ended, and is sent once more.
    """

    at: float
    round: int
    kind: str
    client: str
    task: str
    version: int | None
    bytes: int
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnswered:
    """A client's answer counts, `seconds` after the task was sent.

    `version` is the one that it started from, `bytes` the size of the parameters that came with it: 0 for none. An update
    that a simulation's worker adds up where it was made counts with the size of the model. `loss` is there where the client
    has evaluated.
    """

    at: float
    round: int
    kind: str
    client: str
    task: str
    version: int | None
    seconds: float
    bytes: int
    num_examples: int
    loss: float | None
    metrics: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """There is no answer, or none that counts, `seconds` after the task was sent.

    `reason` is "rejected" where the server refused the answer, "raised" where the client's code raised, "late" where the
    exchange closed first, "left" where the client went away, "died" where the worker that ran it died, twice, "lost" where
    the server's disk has lost what the task needs (`task` is "" where it had been answered before), "empty" where a client
    has no parameters to begin with. `text` is a line for people, and `detail` a traceback, where there is one.
    """

    at: float
    round: int
    kind: str
    client: str
    task: str
    version: int | None
    seconds: float
    reason: Reason
    text: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeClosed:
    """The answers of a cohort, as far as they came, became one, `seconds` after it was asked.

    `loss` and `metrics` are what the strategy made of them. `void` says why a "fit" made no new version of the model though
    there were updates, and is "" otherwise; `note` has remarks for people.
    """

    at: float
    round: int
    kind: str
    results: int
    failures: int
    seconds: float
    loss: float | None
    metrics: Mapping[str, object]
    void: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionMade:
    """There is a new version of the model, of so many bytes. Version 0 is the one that the run begins with."""

    at: float
    round: int
    version: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CentrallyEvaluated:
    """What `evaluate_fn` says of a version of the model."""

    at: float
    round: int
    version: int
    loss: float | None
    metrics: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """A round is done, and this is what it leaves in the History.

    `loss` and `metrics` are what the clients measured, `central_loss` and `central_metrics` what `evaluate_fn` did,
    `fit_metrics` what clients said about their training. `void`: the round has updates, and no new version of the model.
    """

    at: float
    round: int
    version: int | None
    void: bool
    loss: float | None
    metrics: Mapping[str, object]
    fit_metrics: Mapping[str, object]
    central_loss: float | None
    central_metrics: Mapping[str, object]


Event: TypeAlias = (
    RunStarted
    | RunResumed
    | RunRewound
    | RunInterrupted
    | RunEnded
    | ClientJoined
    | PopulationJoined
    | ClientLeft
    | WaitingForClients
    | ModelInitialized
    | RoundStarted
    | CohortChosen
    | TaskSent
    | TaskAnswered
    | TaskFailed
    | ExchangeClosed
    | VersionMade
    | CentrallyEvaluated
    | RoundClosed
)
Observer: TypeAlias = Callable[[Event], object]
