"""A run as one line that moves: rounds, clients, losses, time to go. For a terminal or a notebook."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Self

from umbel import events
from umbel.events import Event
from umbel.runtime.interactive import in_notebook
from umbel.runtime.log import lines, logger
from umbel.runtime.observers.console import EMPTY_MODEL, format_measures, printable

__all__ = ["Progress", "somebody_watches"]


def somebody_watches() -> bool:
    """Whether there is somebody to show a bar to: at a terminal, or in a notebook."""
    return (sys.stderr is not None and sys.stderr.isatty()) or in_notebook()


class Progress:
    """A bar over the rounds, and what was measured last. Warnings appear above it. Used as a context."""

    follows = (events.TaskAnswered,)

    def __init__(self, num_rounds: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=num_rounds, unit="round", dynamic_ncols=True, smoothing=0.1)
        self._cohort = 0
        self._answered = 0
        self._said = ""

    def __enter__(self) -> Self:
        from tqdm.contrib.logging import logging_redirect_tqdm

        # Lines of a log go above the bar. A logger without a handler would be given one, and say each line once more.
        self._lines = logging_redirect_tqdm([each for each in (logger, logging.getLogger()) if _at_terminal(each)])
        self._lines.__enter__()
        lines.through = self._write
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        lines.through = None
        self._lines.__exit__(kind, error, trace)

    def observe(self, event: Event) -> None:
        """Moves on with one event."""
        match event:
            case events.RunResumed():
                self._bar.total = event.num_rounds
                self._bar.update(max(event.round - 1, 0) - self._bar.n)
            case events.CohortChosen():
                self._cohort, self._answered = len(event.clients), 0
                self._show(event.kind)
            case events.TaskAnswered() | events.TaskFailed():
                self._answered += 1
                if isinstance(event, events.TaskFailed) and event.reason != "empty":
                    said = printable(event.text, 2000)
                    logger.warning("%s of round %d: client %s failed: %s", event.kind, event.round, event.client, said)
                self._show(event.kind)
            case events.ExchangeClosed() | events.CentrallyEvaluated():
                self._said = format_measures(event.loss, event.metrics, most=4) or self._said
                if isinstance(event, events.ExchangeClosed):
                    for line in [*event.void.splitlines(), *event.note.splitlines()]:
                        logger.warning("%s: %s", event.kind, printable(line, 2000))
            case events.ModelInitialized(source=""):
                logger.warning("%s", EMPTY_MODEL)
            case events.RoundStarted():
                self._bar.update(event.round - 1 - self._bar.n)
            case events.RunEnded():
                self._bar.update(event.rounds - self._bar.n)
                self._bar.set_postfix_str(self._said)
            case _:
                pass

    def _write(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def _show(self, kind: str) -> None:
        # not refreshed here: the bar draws itself ten times a second at most
        self._bar.set_postfix_str(f"{kind} {self._answered}/{self._cohort} {self._said}".rstrip(), refresh=False)
        self._bar.update(0)


def _at_terminal(each: logging.Logger) -> bool:
    streams = (getattr(handler, "stream", None) for handler in each.handlers)
    return any(stream is not None and stream in (sys.stdout, sys.stderr) for stream in streams)
