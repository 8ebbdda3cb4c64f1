"""What goes into the coordinator and what comes out. Plain frozen values, so that every one can be journaled.

Inputs are facts (past tense); commands are wishes (imperative). A command that asks the owner's code something is a
question; its answer is the next input of the same name: Choose → Chosen.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

__all__ = [
    "Cancel",
    "Choose",
    "Chosen",
    "Closed",
    "Command",
    "Discard",
    "Dispatch",
    "Evaluate",
    "Evaluated",
    "Failed",
    "Failure",
    "FailureKind",
    "Initialize",
    "Initialized",
    "Input",
    "Joined",
    "Kind",
    "Left",
    "Lost",
    "Member",
    "Populated",
    "Publish",
    "Replied",
    "Reply",
    "Reported",
    "Resumed",
    "Settle",
    "Started",
    "Step",
    "Stepped",
    "Stopped",
    "Summarize",
    "Summarized",
    "Task",
    "Ticked",
    "Verdict",
]

from umbel.population import Clients
from umbel.rounds.notices import Notice


class Kind(StrEnum):
    """What a client is asked to do."""

    PROPERTIES = "properties"
    PARAMETERS = "parameters"
    FIT = "fit"
    EVALUATE = "evaluate"


Facts = dict[str, bool | int | float]  # by name


class FailureKind(StrEnum):
    """Why a task has no result."""

    RAISED = "raised"  # the client's own code raised
    REJECTED = "rejected"  # the server's door refused the reply
    LATE = "late"  # the exchange closed first
    LEFT = "left"  # the client went away
    EMPTY = "empty"  # asked for initial parameters, the client said that it has none
    DIED = "died"  # the worker that ran the client died, twice
    LOST = "lost"  # the server's disk has lost what the task needs


class Verdict(StrEnum):
    """What the sender of a reply is told."""

    ACCEPTED = "accepted"
    ALREADY = "already accepted"
    STALE = "stale"
    REJECTED = "rejected"
    NOTED = "noted"  # a failure report was taken down


class Failure(Struct, frozen=True):
    kind: FailureKind
    text: str  # one line: what was wrong, and what to do about it
    detail: str = ""  # a traceback, where there is one


class Task(Struct, frozen=True):
    """One thing asked of one client. Tasks of an exchange are numbered by `index`; updates are folded in that order.

    What is unset is not written: the digests of journals from before it was there stay what they were.
    """

    id: str
    round: int
    kind: Kind
    index: int
    cohort: int
    client: str
    version: int | None  # of the model that travels with it
    config: dict[str, object]
    content: str | None = None  # parameters of its own that travel instead of the model
    at: float = 0.0  # run time at which it was sent, s
    max_norm: float | UnsetType = UNSET  # of its update; unset where no norm is worked out
    exchange: str | UnsetType = UNSET  # the name of its exchange; unset where that is the name of its kind

    @property
    def name(self) -> str:
        """The name of its exchange."""
        return self.kind if self.exchange is UNSET else self.exchange

    @property
    def is_update(self) -> bool:
        """Whether its answer is an update of the model."""
        return self.kind is Kind.FIT and self.exchange is UNSET


class Reply(Struct, frozen=True):
    """What a client answered, without its arrays: they are in the content named `content`, or added up with others' in the
    partial sum named `partial`, or both.

    `norm` is how far its update is from what it was given, where that was worked out. `unfit` says why an update that was
    admitted is not like the model.
    """

    num_examples: int = 0
    loss: float = 0.0
    metrics: dict[str, object] = {}
    content: str | None = None
    partial: str | None = None
    norm: float | UnsetType = UNSET
    unfit: str | UnsetType = UNSET


class Member(Struct, frozen=True):
    """A chosen client and the config it gets; `content` names parameters of its own, where it gets no model."""

    client: str
    config: dict[str, object] = {}
    content: str | None = None


class Closed(Struct, frozen=True):
    """An exchange of the present round that has closed. `results` are in task order."""

    exchange: str
    results: tuple[tuple[Task, Reply], ...]
    failures: tuple[tuple[Task, Failure], ...]
    opened_at: float  # run time, s


# ---- inputs


class Started(Struct, frozen=True):
    """The first input of a run."""


class Resumed(Struct, frozen=True):
    """A new process has taken over; the run may have become longer."""

    num_rounds: int


class Joined(Struct, frozen=True):
    client: str


class Populated(Struct, frozen=True):
    """A whole population is there: the clients 0 to `numbered` - 1, and those with names."""

    numbered: int = 0
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many there are."""
        return self.numbered or len(self.names)


class Left(Struct, frozen=True):
    client: str
    why: str = ""


class Initialized(Struct, frozen=True):
    """The strategy gave version 0, or has none to give."""

    given: bool


class Chosen(Struct, frozen=True):
    """The cohort; or `needs`, the number of clients below which the strategy will not choose."""

    members: tuple[Member, ...] = ()
    needs: int = 0


class Replied(Struct, frozen=True):
    task: str
    reply: Reply


class Reported(Struct, frozen=True):
    """A worker's answers to several tasks at once, of which all count or none."""

    replies: tuple[tuple[str, Reply], ...]


class Failed(Struct, frozen=True):
    task: str
    failure: Failure


class Ticked(Struct, frozen=True):
    """The time of `wake_at` has come."""


class Stepped(Struct, frozen=True):
    """The round's updates became `version`; the same version as before where there was nothing to step with.

    `void` says why the step was given up, and is "" where it was not: what it would have made was not finite. `facts` are
    what the strategy remembers in numbers from now on, here and in other answers; unset, they are what they were.
    """

    version: int
    metrics: dict[str, object] = {}
    note: str = ""
    void: str = ""
    facts: Facts | UnsetType = UNSET


class Evaluated(Struct, frozen=True):
    """The owner's central evaluation; `loss` is None where there is none."""

    loss: object = None
    metrics: dict[str, object] = {}
    facts: Facts | UnsetType = UNSET


class Summarized(Struct, frozen=True):
    """The clients' evaluations became one."""

    loss: object = None
    metrics: dict[str, object] = {}
    note: str = ""
    facts: Facts | UnsetType = UNSET


class Stopped(Struct, frozen=True):
    why: str


class Lost(Struct, frozen=True):
    """These contents, and these versions of the model, are gone or not what was written."""

    contents: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()


Input = (
    Started
    | Resumed
    | Joined
    | Populated
    | Left
    | Initialized
    | Chosen
    | Replied
    | Reported
    | Failed
    | Ticked
    | Stepped
    | Evaluated
    | Summarized
    | Stopped
    | Lost
)


# ---- commands


class Initialize(Struct, frozen=True):
    """Question: has the strategy initial parameters?"""


class Choose(Struct, frozen=True):
    """Question: who of `available` takes part? `busy` more are at a task of an earlier round.

    `exchange` is the name of the exchange, where that is not the name of its kind, and `closed` are those before it.
    """

    round: int
    kind: Kind
    attempt: int
    version: int
    available: Clients
    busy: int = 0
    exchange: str | UnsetType = UNSET
    closed: tuple[Closed, ...] | UnsetType = UNSET
    facts: Facts | UnsetType = UNSET

    @property
    def name(self) -> str:
        """The name of the exchange."""
        return self.kind if self.exchange is UNSET else self.exchange


class Dispatch(Struct, frozen=True):
    task: Task


class Cancel(Struct, frozen=True):
    """The answer to this task is no longer wanted."""

    task: Task
    why: str


class Discard(Struct, frozen=True):
    """This content is not needed."""

    content: str


class Settle(Struct, frozen=True):
    """Tell the sender of a reply what became of it."""

    task: str
    verdict: Verdict
    why: str = ""


class Step(Struct, frozen=True):
    """Question: what do these updates make of the model? `results` are in task order; `closed` are the other exchanges."""

    round: int
    version: int | None
    results: tuple[tuple[Task, Reply], ...]
    failures: tuple[tuple[Task, Failure], ...]
    closed: tuple[Closed, ...] | UnsetType = UNSET
    facts: Facts | UnsetType = UNSET


class Evaluate(Struct, frozen=True):
    """Question: how good is this version by the owner's own data?"""

    round: int
    version: int
    facts: Facts | UnsetType = UNSET


class Summarize(Struct, frozen=True):
    """Question: what do the clients' evaluations say together? `results` are in task order."""

    round: int
    results: tuple[tuple[Task, Reply], ...]
    failures: tuple[tuple[Task, Failure], ...]
    facts: Facts | UnsetType = UNSET


class Publish(Struct, frozen=True):
    event: Notice


Command = (
    Initialize
    | Choose
    | Dispatch
    | Cancel
    | Discard
    | Settle
    | Step
    | Evaluate
    | Summarize
    | Publish
)
