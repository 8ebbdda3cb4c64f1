"""What the coordinator gives notice of. A notice is part of a command, and so of the journal's digests and of the History.

The public events of a run (`umbel.events`) are made from these, from inputs and from commands. `at` is run time in seconds:
it stands still while no coordinator runs.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = [
    "CentrallyEvaluated",
    "ClientJoined",
    "ClientLeft",
    "CohortChosen",
    "ExchangeClosed",
    "ModelInitialized",
    "Notice",
    "PopulationJoined",
    "RoundStarted",
    "RunFinished",
    "RunResumed",
    "RunRewound",
    "RunStarted",
    "TaskFailed",
    "TaskSucceeded",
    "WaitingForClients",
]


class RunStarted(Struct, frozen=True):
    at: float
    num_rounds: int


class RunResumed(Struct, frozen=True):
    at: float
    num_rounds: int
    round: int


class RunRewound(Struct, frozen=True):
    """The newest version of the model was lost: from `version` on everything is done again, beginning with `round`."""

    at: float
    round: int
    version: int


class ClientJoined(Struct, frozen=True):
    at: float
    client: str
    available: int


class PopulationJoined(Struct, frozen=True):
    at: float
    clients: int
    available: int


class ClientLeft(Struct, frozen=True):
    at: float
    client: str
    available: int
    why: str


class ModelInitialized(Struct, frozen=True):
    """`source` is the client whose parameters the run starts from; None where the strategy gave them, "" where nobody has
    any: the model is empty.
    """

    at: float
    source: str | None


class WaitingForClients(Struct, frozen=True):
    at: float
    round: int
    available: int
    needed: int


class RoundStarted(Struct, frozen=True):
    at: float
    round: int
    num_rounds: int


class CohortChosen(Struct, frozen=True):
    at: float
    round: int
    kind: str
    attempt: int
    clients: tuple[str, ...]
    available: int


class TaskSucceeded(Struct, frozen=True):
    at: float
    round: int
    kind: str
    client: str
    num_examples: int


class TaskFailed(Struct, frozen=True):
    at: float
    round: int
    kind: str
    client: str
    reason: str  # FailureKind
    text: str
    detail: str = ""


class ExchangeClosed(Struct, frozen=True):
    """A cohort has answered, as far as it did, and its answers became one."""

    at: float
    round: int
    kind: str
    results: int
    failures: int
    seconds: float
    loss: object = None
    metrics: dict[str, object] = {}
    note: str = ""


class CentrallyEvaluated(Struct, frozen=True):
    at: float
    round: int
    loss: object
    metrics: dict[str, object]


class RunFinished(Struct, frozen=True):
    """`error` names the class of the error that ended the run; "" for a run that came to its end or was stopped."""

    at: float
    rounds: int
    why: str
    error: str = ""
    stopped: bool = False  # by the owner, before the end


Notice = (
    RunStarted
    | RunResumed
    | RunRewound
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
