"""The rounds of a run, without I/O. Knows no arrays, no clock, no clients' code and no owner's code.

The rules of this room:

1. Whatever happened comes in through `handle(input, at)`; whatever should happen goes out as a list of commands. `at` is
   run time in seconds and is told, never asked.
2. The same inputs in the same order give the same commands: replay and resume are nothing but feeding a journal.
3. What the owner's code answers is an input like any other. While a question is open (ASKING), its answer is the only input
   that moves the machine on; the others are noted.
4. Everything still owed after a crash can be read from the state: `owed()`.

A round is a list of exchanges (`exchanges.py`). Each goes the same way: WAITING for enough clients → ASKING whom → OPEN
until it closes. Then the next one begins, or its answers become something: ASKING for the step, or for the summary.

    version 0:  ASKING initialize → (the exchange "parameters" with one client → ASKING step →) ASKING evaluate
    a round:    an exchange, or several → ASKING step → ASKING evaluate → the exchange "evaluate" → ASKING summarize

At any moment, then: one exchange is the present one, `state.exchange`. Tasks are open while OPEN, and until the question
after it is answered, their results are in the state. A question is open exactly while ASKING. Time matters only where
`wake_at` says so: the pause of an attempt that came to nothing while WAITING, the deadline while OPEN.

`TRANSITIONS` below is the whole machine; docs/architecture.md draws it. In it stand functions of a run, an input and a time,
which are in the files beside this one: each changes the state, and returns what should happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from umbel.rounds.answers import settle_late, settle_late_failure, settle_late_report
from umbel.rounds.asking import form
from umbel.rounds.closing import open_failed, open_joined, open_left, open_replied, open_reported, open_ticked
from umbel.rounds.ending import stop
from umbel.rounds.losing import extend, lose
from umbel.rounds.messages import (
    Chosen,
    Command,
    Dispatch,
    Evaluated,
    Failed,
    Initialized,
    Input,
    Joined,
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
from umbel.rounds.presence import join, leave
from umbel.rounds.questions import start, take_chosen, take_evaluated, take_initialized, take_stepped, take_summarized
from umbel.rounds.state import Before, Phase, Question, Rules, Run, State
from umbel.rounds.waiting import waiting_joined, waiting_left, waiting_ticked

__all__ = ["ANSWERS", "TRANSITIONS", "Before", "Coordinator", "Phase", "Question", "Rules", "State"]

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
TRANSITIONS: Mapping[Phase, Mapping[type, Handler]] = {
    Phase.NEW: {Started: start},
    Phase.WAITING: _ALWAYS
    | {
        Joined: waiting_joined,
        Populated: waiting_joined,
        Left: waiting_left,
        Ticked: waiting_ticked,
    },
    Phase.ASKING: _ALWAYS
    | {
        Initialized: take_initialized,
        Chosen: take_chosen,
        Stepped: take_stepped,
        Evaluated: take_evaluated,
        Summarized: take_summarized,
    },
    Phase.OPEN: _ALWAYS
    | {
        Joined: open_joined,
        Populated: open_joined,
        Left: open_left,
        Replied: open_replied,
        Reported: open_reported,
        Failed: open_failed,
        Ticked: open_ticked,
    },
    Phase.DONE: _ALWAYS | {Stopped: nothing},
}
# Which question each answer is to.
ANSWERS: Mapping[type, Question] = {
    Initialized: Question.INITIALIZE,
    Chosen: Question.CHOOSE,
    Stepped: Question.STEP,
    Evaluated: Question.EVALUATE,
    Summarized: Question.SUMMARIZE,
}


class Coordinator:
    """The state machine of one run."""

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules = rules
        self.state = state
        self._run = Run(rules, state)

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
        s, first = self.state, self.rules.exchanges[0]
        begins = s.phase is Phase.WAITING or s.question is Question.CHOOSE
        return s.phase is Phase.DONE or (begins and s.exchange == first.name and s.attempt == 0)

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
            case Phase.WAITING:
                return f"clients: {len(s.pool)} of {max(s.needed, 1)} available" if len(s.pool) < s.needed else ""
            case Phase.OPEN:
                tasks = [s.tasks[place] for place in islice(s.wanted.values(), 10)]
                names = [task.client + ("" if task.client in s.pool else " (gone)") for task in tasks]
                more = f" and {len(s.wanted) - 10} more" if len(s.wanted) > 10 else ""
                return f"{s.exchange} of round {s.round} from {', '.join(names)}{more}"
            case _:
                return ""

    def handle(self, event: Input, at: float) -> list[Command]:
        """Takes one input and answers with what should happen now, in order."""
        s, kind = self.state, type(event)
        handler = TRANSITIONS[s.phase].get(kind)
        if handler is None or ANSWERS.get(kind, s.question) is not s.question:
            asked = "" if s.question is None else f" {s.question}"
            raise RuntimeError(f"{kind.__name__} cannot happen in phase {s.phase}{asked}")
        return handler(self._run, event, at)

    def owed(self) -> list[Command]:
        """What a new process has to do before it goes on: the open question, every answer still wanted, or the last word."""
        s = self.state
        question = [] if s.question is None else [form(self._run, s.question)]
        return [*map(Dispatch, self.pending), *question, *([] if s.ended is None else [Publish(s.ended)])]
