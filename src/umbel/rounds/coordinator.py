"""The rounds of a run, without I/O. Knows no arrays, no clock, no clients' code and no owner's code.

The rules of this room:

1. Whatever happened comes in through `handle(input, at)`; whatever should happen goes out as a list of commands. `at` is
   run time in seconds and is told, never asked.
2. The same inputs in the same order give the same commands: replay and resume are nothing but feeding a journal.
3. What the owner's code answers is an input like any other. While a question is open (CHOOSING, STEPPING, TESTING,
   SUMMARIZING and the start of INIT), its answer is the only input that moves the machine on; the others are noted.
4. Everything still owed after a crash can be read from the state: `owed()`.

A run is: version 0 (from the strategy, else from one client) → central evaluation → for each round: choose, fit, step,
central evaluation, choose, evaluate, summarize. `TRANSITIONS` below is the whole machine; docs/architecture.md draws it. In
it stand functions of a run, an input and a time, which are in the files beside this one: each changes the state, and returns
what should happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from umbel.rounds.answers import settle_late, settle_late_failure, settle_late_report
from umbel.rounds.closing import (
    open_failed,
    open_joined,
    open_left,
    open_replied,
    open_reported,
    open_ticked,
    step,
    summarize,
)
from umbel.rounds.ending import stop
from umbel.rounds.losing import extend, lose
from umbel.rounds.messages import (
    Chosen,
    Command,
    Dispatch,
    Evaluated,
    Failed,
    Initialize,
    Initialized,
    Input,
    Joined,
    Kind,
    Left,
    Lost,
    Populated,
    Publish,
    Replied,
    Reported,
    Resumed,
    Started,
    Stepped,
    Stopped,
    Summarized,
    Task,
    Ticked,
)
from umbel.rounds.opening import choose, waiting_joined, waiting_ticked
from umbel.rounds.presence import join, leave
from umbel.rounds.questions import chosen, evaluate, evaluated, initialized, start, stepped, summarized
from umbel.rounds.seeding import seed_failed, seed_joined, seed_left, seed_replied, seed_reported, seed_ticked
from umbel.rounds.state import Before, Phase, Rules, Run, State

__all__ = ["TRANSITIONS", "Before", "Coordinator", "Phase", "Rules", "State"]

Handler = Callable[[Run, Any, float], list[Command]]  # each takes the type of input that it stands beside


def nothing(_: Run, __: Input, ___: float) -> list[Command]:
    return []


# What each input does in each phase. `nothing` means that the input is expected and changes nothing; an input that is not
# here cannot happen.
_ALWAYS: dict[type, Handler] = {
    Joined: join,
    Populated: join,
    Left: leave,
    Replied: settle_late,
    Reported: settle_late_report,
    Failed: settle_late_failure,
    Ticked: nothing,
    Resumed: extend,
    Stopped: stop,
    Lost: lose,
}
_OPEN: dict[type, Handler] = _ALWAYS | {
    Joined: open_joined,
    Populated: open_joined,
    Left: open_left,
    Replied: open_replied,
    Reported: open_reported,
    Failed: open_failed,
    Ticked: open_ticked,
}
TRANSITIONS: Mapping[Phase, Mapping[type, Handler]] = {
    Phase.NEW: {Started: start},
    Phase.INIT: _ALWAYS | {Initialized: initialized},
    Phase.SEEDING: _ALWAYS
    | {
        Joined: seed_joined,
        Populated: seed_joined,
        Left: seed_left,
        Replied: seed_replied,
        Reported: seed_reported,
        Failed: seed_failed,
        Ticked: seed_ticked,
    },
    Phase.WAITING: _ALWAYS | {Joined: waiting_joined, Populated: waiting_joined, Ticked: waiting_ticked},
    Phase.CHOOSING: _ALWAYS | {Chosen: chosen},
    Phase.FIT: _OPEN,
    Phase.STEPPING: _ALWAYS | {Stepped: stepped},
    Phase.TESTING: _ALWAYS | {Evaluated: evaluated},
    Phase.EVALUATE: _OPEN,
    Phase.SUMMARIZING: _ALWAYS | {Summarized: summarized},
    Phase.DONE: _ALWAYS | {Stopped: nothing},
}


class Coordinator:
    """The state machine of one run."""

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules = rules
        self.state = state

    @property
    def done(self) -> bool:
        return self.state.phase is Phase.DONE

    @property
    def wake_at(self) -> float | None:
        """Run time at which a `Ticked` is due; None while nothing waits for time."""
        return self.state.wake_at

    @property
    def between_rounds(self) -> bool:
        """Whether everything before this moment is in the model, the history and the state: nothing is under way."""
        s = self.state
        return s.phase is Phase.DONE or (
            s.phase in (Phase.WAITING, Phase.CHOOSING) and s.kind is Kind.FIT and s.attempt == 0
        )

    @property
    def pending(self) -> tuple[Task, ...]:
        """Tasks whose answer is still wanted, in task order: of the open exchange, and those carried over."""
        return self.state.pending

    def asked(self, task_id: str) -> Task | None:
        """The task of this id, where its answer is still wanted."""
        place = self.state.wanted.get(task_id)
        return self.state.find_carried(task_id) if place is None else self.state.tasks[place]

    @property
    def waiting_for(self) -> str:
        """Whom the run waits for, in a line; "" while it waits for no client."""
        s = self.state
        match s.phase:
            case Phase.WAITING | Phase.SEEDING if not s.wanted:
                return f"clients: {len(s.pool)} of {max(s.needed, 1)} available" if len(s.pool) < s.needed else ""
            case Phase.FIT | Phase.EVALUATE | Phase.SEEDING:
                tasks = [s.tasks[place] for place in islice(s.wanted.values(), 10)]
                names = [task.client + ("" if task.client in s.pool else " (gone)") for task in tasks]
                more = f" and {len(s.wanted) - 10} more" if len(s.wanted) > 10 else ""
                return f"{s.kind} of round {s.round} from {', '.join(names)}{more}"
            case _:
                return ""

    def handle(self, event: Input, at: float) -> list[Command]:
        """Takes one input and answers with what should happen now, in order."""
        handler = TRANSITIONS[self.state.phase].get(type(event))
        if handler is None:
            raise RuntimeError(f"{type(event).__name__} cannot happen in phase {self.state.phase}")
        return handler(Run(self.rules, self.state), event, at)

    def owed(self) -> list[Command]:
        """What a new process has to do before it goes on: the open question, every answer still wanted, or the last word."""
        ended = self.state.ended
        return [*map(Dispatch, self.pending), *self._question(), *([] if ended is None else [Publish(ended)])]

    def _question(self) -> list[Command]:
        run = Run(self.rules, self.state)
        match self.state.phase:
            case Phase.INIT:
                return [Initialize()]
            case Phase.CHOOSING:
                return [choose(run)]
            case Phase.STEPPING:
                return [step(run)]
            case Phase.TESTING:
                return [evaluate(run)]
            case Phase.SUMMARIZING:
                return [summarize(run)]
            case _:
                return []
