"""What an observer can see of a run: one typed stream, derived from the journal and nothing else.

`at` is run time in seconds: it stands still while no coordinator runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "CentrallyEvaluated",
    "ClientJoined",
    "ClientLeft",
    "CohortChosen",
    "Event",
    "ExchangeClosed",
    "ModelInitialized",
    "PopulationJoined",
    "RoundStarted",
    "RunFinished",
    "RunResumed",
    "RunStarted",
    "TaskFailed",
    "TaskSucceeded",
    "WaitingForClients",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    at: float
    num_rounds: int


@dataclass(frozen=True, slots=True)
class RunResumed:
    at: float
    num_rounds: int
    round: int


@dataclass(frozen=True, slots=True)
class ClientJoined:
    at: float
    client: str
    available: int


@dataclass(frozen=True, slots=True)
class PopulationJoined:
    at: float
    clients: int
    available: int


@dataclass(frozen=True, slots=True)
class ClientLeft:
    at: float
    client: str
    available: int
    why: str


@dataclass(frozen=True, slots=True)
class ModelInitialized:
    """`source` is the client whose parameters the run starts from; None where the strategy gave them."""

    at: float
    source: str | None


@dataclass(frozen=True, slots=True)
class WaitingForClients:
    at: float
    round: int
    available: int
    needed: int


@dataclass(frozen=True, slots=True)
class RoundStarted:
    at: float
    round: int
    num_rounds: int


@dataclass(frozen=True, slots=True)
class CohortChosen:
    at: float
    round: int
    kind: str
    attempt: int
    clients: tuple[str, ...]
    available: int


@dataclass(frozen=True, slots=True)
class TaskSucceeded:
    at: float
    round: int
    kind: str
    client: str
    num_examples: int


@dataclass(frozen=True, slots=True)
class TaskFailed:
    at: float
    round: int
    kind: str
    client: str
    reason: str  # FailureKind
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeClosed:
    """A cohort has answered, as far as it did, and its answers became one."""

    at: float
    round: int
    kind: str
    results: int
    failures: int
    seconds: float
    loss: object = None
    metrics: dict[str, object] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class CentrallyEvaluated:
    at: float
    round: int
    loss: object
    metrics: dict[str, object]


@dataclass(frozen=True, slots=True)
class RunFinished:
    """`error` names the class of the error that ended the run; "" for a run that came to its end or was stopped."""

    at: float
    rounds: int
    why: str
    error: str = ""
    stopped: bool = False  # by the owner, before the end


Event = (
    RunStarted
    | RunResumed
    | ClientJoined
    | PopulationJoined
    | ClientLeft
    | ModelInitialized
    | WaitingForClients
    | RoundStarted
    | CohortChosen
    | TaskSucceeded
    | TaskFailed
    | ExchangeClosed
    | CentrallyEvaluated
    | RunFinished
)
