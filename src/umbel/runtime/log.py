"""The logger "umbel", and how it looks where the host program has not said how logs should look."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure", "log", "logger"]

logger = logging.getLogger("umbel")
_COLOURS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}


def configure() -> None:
    """Sends INFO and above to stderr, unless the host program has handlers of its own: then they decide."""
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(colour=sys.stderr.isatty()))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def log(level: int, message: object, *args: object) -> None:
    """Logs to "umbel": the classic `log(INFO, "text %s", value)`."""
    logger.log(level, message, *args)


class _Formatter(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(message)s")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = f"{record.levelname:<8}"
        if self._colour:
            name = f"\x1b[{_COLOURS.get(record.levelname, 0)}m{name}\x1b[0m"
        return f"{name}: {super().format(record)}"
