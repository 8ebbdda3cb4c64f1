"""The loop of a run: take an input, hand it to the coordinator, journal it, do what it says.

This is the only wait in a server. Simulation, network, tests and resume all come through here.

Nothing that others can see happens before the journal has what caused it: inputs are written, together, before a task is
sent, taken back or settled, and before the loop waits. Between two such moments a crash loses what nobody has seen. A store
whose unit is the round gets no inputs, but the state between two rounds.

One transaction for several inputs: a phase of two clients needs one, where each input for itself needs five, each 0.2 ms. So
the senders of answers hear that these count when something is written anyhow: after the next tasks, or before the loop
waits, or before a question that may take longer than `SHORT`. And the loop listens for `GATHERING` before it writes and
waits.

A snapshot writes the state, and what has come to the History since the one before; without a journal it copies the model,
too. Snapshots take a tenth of the time or so: beside a journal always, and without one from the hundredth round on. (4,000
rounds of two clients took 25 s if nothing was kept, 73 s with a snapshot each that had the whole History, and take 46 s with
one each that has what is new.)
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from umbel.rounds.coordinator import Coordinator
from umbel.rounds.messages import (
    Cancel,
    Choose,
    Command,
    Discard,
    Dispatch,
    Evaluate,
    Initialize,
    Input,
    Lost,
    Publish,
    Settle,
    Step,
    Stepped,
    Stopped,
    Summarize,
    Ticked,
)
from umbel.rounds.notices import CohortChosen, Notice, WaitingForClients
from umbel.runtime.bounds import Failures
from umbel.runtime.failpoints import failpoint
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.runtime.observers.narrator import Narrator
from umbel.runtime.owner import Owner, Question
from umbel.runtime.stores.base import Entry, Snapshot, Store, Unit
from umbel.runtime.transports.base import Transport

__all__ = ["NAG_EVERY", "Clock", "run"]

SNAPSHOT_EVERY = 1.0  # seconds at least beside a journal: as much of it is fed again after a resume
SNAPSHOT_ROUNDS = 100  # without a journal so many rounds are kept one by one
SNAPSHOT_PAUSE = 9.0  # times what the last snapshot took, until the next
SNAPSHOT_PAUSE_MOST = 10.0  # seconds, also after a store that was away for long
TOGETHER = 100  # inputs that share a transaction at most, where they come faster than they are handled
GATHERING = 0.001  # seconds in which what comes shares a transaction with what is there
SHORT = 0.005  # seconds that the owner took for his last answer of a kind, where his next may come before a transaction
NAG_EVERY = 10.0  # seconds between two lines about whom the run waits for


class Clock:
    """Run time in seconds: monotonic, and standing still while no coordinator runs."""

    def __init__(self, start: float = 0.0) -> None:
        self._zero = time.monotonic() - start

    def __call__(self) -> float:
        return time.monotonic() - self._zero


def run(
    *,
    coordinator: Coordinator,
    owner: Owner,
    model: GlobalModel,
    store: Store,
    transport: Transport,
    history: History,
    untold: Sequence[Notice] = (),
    lost: Lost | None = None,
    clock: Callable[[], float],
    first: Sequence[Input],
    nag_every: float = NAG_EVERY,
    narrator: Narrator,
) -> None:
    """Runs until the coordinator is done. `first` begins with `Started`, or with `Resumed` for a run that goes on.

    `untold` is what has come to the History since the last snapshot; `lost` is what was found damaged since. `narrator`
    makes events of what happens.

    Errors of the owner's code and of the store pass through; the journal then ends before them, and the run can be resumed.
    """
    by_input = store.unit is Unit.INPUT
    answers: deque[Input] = deque()
    unwritten: list[Entry] = []
    unsettled: list[Settle] = []
    writing, answering = threading.Lock(), False  # while the owner answers, `settle_first` may write
    took: dict[type[Command], float] = {}  # seconds that the owner's last answer took, by the kind of question
    told = list(untold)  # to the History, and not in a snapshot so far
    failures = Failures(coordinator, history)
    nag_at = clock() + nag_every
    step_done, outdated, snapshot_at = True, False, 0.0  # of `time.monotonic`: the clock of a simulation may be its own

    def keep(entries: Sequence[Entry], at: float) -> None:
        """Puts entries into the journal, and a snapshot."""
        nonlocal snapshot_at
        began = time.monotonic()
        store.write(entries, Snapshot(coordinator.state, tuple(told), at))
        told.clear()
        now = time.monotonic()
        pause = min(SNAPSHOT_PAUSE * (now - began), SNAPSHOT_PAUSE_MOST)
        snapshot_at = now + (max(pause, SNAPSHOT_EVERY) if by_input else pause)

    def write(*, last: bool = False) -> None:
        """Puts into the journal what has been handled; called before anyone outside can see an effect of it."""
        journal(last=last)
        for settle in unsettled:
            failpoint("reply.before-settle")
            transport.settle(settle.task, settle.verdict, settle.why)
            failpoint("reply.after-settle")
        unsettled.clear()

    def journal(*, last: bool) -> None:
        nonlocal step_done, outdated
        if by_input and (unwritten or last):
            if last or (step_done and time.monotonic() >= snapshot_at):
                keep(unwritten, unwritten[-1].at if unwritten else clock())
            else:
                store.write(unwritten)
            unwritten.clear()
            outdated = outdated or step_done or last  # at the end, too: versions that clients still at work had started from
            step_done = False
        narrator.release()

    def forget() -> None:
        """Removes what no step needs any more. After the tasks are sent: a small round waits 0.2 ms less for them."""
        nonlocal outdated
        if outdated:
            failpoint("model.before-forget")
            state = coordinator.state
            model.forget_but(state.versions | state.spare)
            for version in state.versions | state.spare:  # whoever has touched them: said now, and not in the last round
                model.check(version, needed=version in state.versions)
            failpoint("model.after-forget")
            outdated = False

    def commit_round() -> None:
        """Keeps what whole rounds have made, where that is the store's unit."""
        unwritten.clear()
        due = coordinator.done or coordinator.state.completed <= SNAPSHOT_ROUNDS or time.monotonic() >= snapshot_at
        if store.unit is Unit.ROUND and due:
            keep([], clock())
        model.forget_but(coordinator.state.versions)

    def do(command: Command) -> None:
        match command:
            case Publish():
                pass  # the narrator has told it
            case Dispatch():
                journal(last=False)  # who has answered is told afterwards: then the answer finds the next task at once
                task = command.task
                failpoint("task.before-dispatch")
                transport.dispatch(task, model.given(task), model.door(task))
                failpoint("task.after-dispatch")
            case Cancel(task):
                write()
                transport.cancel(task)
            case Settle():
                unsettled.append(command)
            case Discard(content):
                write()
                model.contents.remove(content)
            case Initialize() | Choose() | Step() | Evaluate() | Summarize():
                if unsettled and took.get(type(command), SHORT) >= SHORT:
                    write()
                failpoint("question.before-answer")
                answers.append(ask(command))
                failpoint("question.after-answer")

    def ask(question: Question) -> Input:
        """The owner's answer. Where his code raises, the journal has all that came before."""
        nonlocal answering
        began, answering = time.monotonic(), True
        try:
            try:
                return owner.answer(question)
            finally:
                with writing:
                    answering = False
        except KeyboardInterrupt:
            return Stopped("stopped by Ctrl-C")
        except BaseException:
            write()
            raise
        finally:
            took[type(question)] = time.monotonic() - began

    def settle_first() -> None:
        """Before the owner's code asks a client: whoever waits to hear of its answer takes no question. From any thread."""
        with writing:
            if answering and unsettled:  # else this loop is not held up, and settles by itself
                write()

    def take(event: Input, at: float) -> list[Command]:
        """Hands an input to the coordinator, and what comes of it to the History; the commands are still to be done."""
        nonlocal step_done, nag_at
        commands = coordinator.handle(event, at)
        failpoint("input.after-handle")
        unwritten.append(Entry(event, at, commands))
        step_done = step_done or isinstance(event, Stepped)
        for command in commands:
            if isinstance(command, Publish):
                failures.observe(command.event)
                traced = history.observe(command.event)
                if traced and store.unit is not Unit.NOTHING:  # at once: a snapshot has to have it
                    told.append(command.event)
                if isinstance(command.event, (CohortChosen, WaitingForClients)):
                    nag_at = at + nag_every
        return commands

    transport.before_asking(settle_first)
    if lost is not None:
        at = clock()
        commands = take(lost, at)
        narrator.take(lost, commands, at)
        write()
        model.remove(lost)
        for command in commands:
            do(command)
    owed = coordinator.owed()
    answers.extend(first)
    while not coordinator.done:
        if answers:
            event: Input | None = answers.popleft()
        else:
            wake_at = coordinator.wake_at
            until = nag_at if wake_at is None else min(nag_at, wake_at)
            # What comes now shares the transaction: a thousand clients that join at once are not a thousand of them.
            event = None
            if by_input and unwritten and len(unwritten) < TOGETHER:
                event = transport.receive(min(GATHERING, max(until - clock(), 0.0)))
            if event is None:
                write()
                forget()
                event = transport.receive(None if until == math.inf else max(until - clock(), 0.0))
        at = clock()
        if event is None and coordinator.wake_at is not None and at >= coordinator.wake_at:
            event = Ticked()
        if event is not None:
            failpoint("input.before-handle")
            commands = take(failures.cut(event), at)
            if not by_input and coordinator.between_rounds:
                commit_round()
            narrator.take(event, commands, at)
            narrator.owe(owed)
            for command in [*commands, *owed]:
                do(command)
            owed = []
        if at >= nag_at:
            nag_at = at + nag_every
            if coordinator.waiting_for:
                logger.info("Waiting for %s", coordinator.waiting_for)
    narrator.owe(owed)
    for command in owed:  # of a run that had ended before this process began
        do(command)
    write(last=True)
    forget()
