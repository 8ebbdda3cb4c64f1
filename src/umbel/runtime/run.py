"""The loop of a run: take an input, journal it, hand it to the coordinator, do what it says.

This is the only wait in a server. Simulation, network, tests and resume all come through here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from umbel.rounds.coordinator import Coordinator
from umbel.rounds.events import CohortChosen, Event, WaitingForClients
from umbel.rounds.messages import (
    Cancel,
    Choose,
    Command,
    Discard,
    Dispatch,
    Evaluate,
    Initialize,
    Input,
    Publish,
    Settle,
    Step,
    Stepped,
    Stopped,
    Summarize,
    Summarized,
    Ticked,
)
from umbel.runtime.log import logger
from umbel.runtime.model import GlobalModel
from umbel.runtime.observers.history import History
from umbel.runtime.owner import Owner
from umbel.runtime.stores.base import Store
from umbel.runtime.transports.base import Transport

__all__ = ["Clock", "run"]

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
    observers: Sequence[Callable[[Event], None]],
    clock: Clock,
    first: Input,
) -> None:
    """Runs until the coordinator is done. `first` is `Started`, or `Resumed` for a run that goes on.

    Errors of the owner's code and of the store pass through; the journal then ends before them, and the run can be resumed.
    """
    answers: deque[Input] = deque()

    def do(command: Command) -> None:
        match command:
            case Initialize() | Choose() | Step() | Evaluate() | Summarize():
                answers.append(_asked(owner, command))
            case Dispatch(task):
                transport.dispatch(task, model.content_for(task), model.door(task))
            case Cancel(task):
                transport.cancel(task)
            case Settle(task=task, verdict=verdict, why=why):
                transport.settle(task, verdict, why)
            case Discard(content):
                model.contents.remove(content)
            case Publish(event):
                for observe in observers:
                    observe(event)

    owed = coordinator.owed()
    answers.append(first)
    nag_at = clock() + NAG_EVERY
    while not coordinator.done:
        if answers:
            event: Input | None = answers.popleft()
        else:
            wake_at = coordinator.wake_at
            until = nag_at if wake_at is None else min(nag_at, wake_at)
            event = transport.receive(max(until - clock(), 0.0))
        at = clock()
        if event is None and coordinator.wake_at is not None and at >= coordinator.wake_at:
            event = Ticked()
        if event is not None:
            store.append(event, at)
            commands = coordinator.handle(event, at)
            for command in commands:
                if isinstance(command, Publish):
                    history.observe(command.event)  # before the snapshot that it belongs to
                    if isinstance(command.event, (CohortChosen, WaitingForClients)):
                        nag_at = at + NAG_EVERY
            if isinstance(event, (Stepped, Summarized)):
                store.snapshot(coordinator.state, history.to_bytes(), at)
                model.committed(coordinator.state.version or 0)
            for command in [*commands, *owed]:
                do(command)
            owed = []
        if at >= nag_at:
            nag_at = at + NAG_EVERY
            if coordinator.waiting_for:
                logger.info("Waiting for %s", coordinator.waiting_for)


def _asked(owner: Owner, question: Initialize | Choose | Step | Evaluate | Summarize) -> Input:
    try:
        return owner.answer(question)
    except KeyboardInterrupt:
        return Stopped("stopped by Ctrl-C")
