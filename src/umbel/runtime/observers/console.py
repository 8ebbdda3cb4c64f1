"""A run as lines of text on the logger "umbel": the one place that turns an event into a line."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from umbel import events
from umbel.events import Event
from umbel.runtime.log import configure, logger
from umbel.runtime.observers.crowd import Crowd
from umbel.wire import shorten

__all__ = ["EMPTY_MODEL", "Console", "format_measures", "in_digits", "printable"]

EMPTY_MODEL = (
    "No client has initial parameters, and neither has the strategy: the model is empty, as for analytics. "
    "To train one, implement get_parameters(), or give the strategy initial_parameters="
)

_OF_THE_CROWD = events.TaskAnswered, events.ClientJoined, events.ClientLeft, events.WaitingForClients


class Console:
    """Says what happens, in sections [INIT], [ROUND n/N] and [SUMMARY]. Used as a context."""

    def __init__(self) -> None:
        configure()
        self._crowd = Crowd()

    @property
    def follows(self) -> Collection[type]:
        """The events made on demand that the console shows."""
        return (events.TaskAnswered,) if logger.isEnabledFor(logging.DEBUG) else ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crowd.flush()

    def observe(self, event: Event) -> None:
        """Writes the lines for one event."""
        if not isinstance(event, events.TaskAnswered):
            configure()  # user code may have set up its own logs since
        if not isinstance(event, _OF_THE_CROWD):
            self._crowd.flush()
        match event:
            case events.TaskAnswered():  # first: there are as many as of all others together
                logger.debug("%s: client %s answered (%d examples)", event.kind, event.client, event.num_examples)
            case events.RunStarted():
                logger.info("[INIT]")
            case events.RunResumed():
                logger.info("Resumed in round %d of %d", max(event.round, 1), event.num_rounds)
            case events.RunRewound():
                logger.warning("Going back to version %d of the model: round %d is done again", event.version, event.round)
            case events.ClientJoined():
                self._crowd.note_joined(event.client, event.available)
            case events.PopulationJoined():
                logger.info("%s clients (%s available)", f"{event.clients:,}", f"{event.available:,}")
            case events.ClientLeft():
                self._crowd.note_left(event.client, event.why, event.available)
            case events.ModelInitialized(source=None):
                logger.info("Using initial parameters from the strategy")
            case events.ModelInitialized(source=""):
                logger.warning("%s", EMPTY_MODEL)
            case events.ModelInitialized():
                logger.info("Using initial parameters from client %s", event.source)
            case events.WaitingForClients():
                self._crowd.note_waiting(event.available, event.needed)
            case events.RoundStarted():
                logger.info("")
                logger.info("[ROUND %d/%d]", event.round, event.num_rounds)
            case events.CohortChosen(kind="parameters"):
                logger.info("Asking client %s for initial parameters", event.clients[0])
            case events.CohortChosen():
                again = f", attempt {event.attempt + 1}" if event.attempt else ""
                names = shorten(event.clients, 10)
                logger.info(
                    "%s: sampled %d of %d clients%s: %s", event.kind, len(event.clients), event.available, again, names
                )
            case events.TaskFailed(kind="parameters", reason="empty"):
                logger.info("client %s has no initial parameters", event.client)
            case events.TaskFailed():
                said = printable(event.text, 2000)
                logger.warning("%s: client %s failed (%s): %s", event.kind, event.client, event.reason, said)
                if event.detail:
                    logger.debug("%s", "\n".join(printable(line, 500) for line in event.detail.splitlines()))
            case events.ExchangeClosed():
                counts = event.results, event.failures, event.seconds
                logger.info("%s: received %d results and %d failures in %.1f s", event.kind, *counts)
                said = format_measures(event.loss, event.metrics)
                if said:
                    logger.info("%s: %s", event.kind, said)
                for line in [*event.void.splitlines(), *event.note.splitlines()]:
                    logger.warning("%s: %s", event.kind, printable(line, 2000))
            case events.CentrallyEvaluated():
                logger.info("central evaluation after round %d: %s", event.round, format_measures(event.loss, event.metrics))
            case events.RunEnded():
                logger.info("")
                logger.info("[SUMMARY]")
                logger.info("Run over after %d rounds in %.1f s: %s", event.rounds, event.at, event.why)


def printable(text: str, limit: int) -> str:
    """What a stranger says, on one line and without control characters.

    >>> printable("no\\x1b[2J\\n[SUMMARY]", 20)
    'no\\\\x1b[2J\\\\n[SUMMARY]'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return shown + "…" if len(text) > limit else shown


def format_measures(loss: object, metrics: Mapping[str, object], most: int = 20) -> str:
    """A loss and metrics in a few words."""
    shown = list((({} if loss is None else {"loss": loss}) | {**metrics}).items())
    parts = [f"{printable(name, 40)} {in_digits(value)}" for name, value in shown[:most]]
    return ", ".join([*parts, f"and {len(shown) - most} more"] if len(shown) > most else parts)


def in_digits(value: object, most: int = 40) -> str:
    """A number in a few digits, of which some tell; anything else in at most so many letters.

    >>> in_digits(0.25), in_digits(7.08e-31), in_digits(7.458e25), in_digits(0.0), in_digits("seven")
    ('0.2500', '7.08e-31', '7.458e+25', '0.0000', 'seven')
    """
    if not isinstance(value, float):
        return printable(str(value), most)
    return f"{value:.4f}" if value == 0 or 5e-5 <= abs(value) < 1e9 else f"{value:.4g}"
