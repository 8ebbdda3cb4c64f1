"""The logger "umbel", and how it looks where the program has not said how logs should look.

Umbel's lines appear, once each, unless the program has hidden them on purpose. What counts as on purpose, as `configure`
sees it when a server, a client or a simulation starts, and whenever something happens:

- **The level of "umbel"**, where the program has set one, is its own. Otherwise a level of the root logger other than
  WARNING holds, since somebody has set it. WARNING is what the root has from the beginning, also after `logging.info(...)`
  or `basicConfig()`, so it says nothing: then "umbel" gets INFO. Whoever wants warnings alone says
  `logging.getLogger("umbel").setLevel("WARNING")`.
- **Handlers** of the program, on "umbel" or on the root logger, get the lines, and theirs are the format and the place.
  Where there is none, lines go to stderr. This is found out line by line: a handler that is added later, such as the one
  that the first `logging.info(...)` in a client makes, takes over, and no line comes twice. A `NullHandler` on the root is
  none; one on "umbel" is the program's word that it wants none.
- **`logging.disable(...)`**, `propagate = False` with handlers of its own, and `disabled = True` on "umbel" hold.
  `dictConfig` disables every logger that it does not name; that is not meant for "umbel", which is enabled again.

A line that cannot be written, because stderr is closed or nobody reads it any more, is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["configure", "keep_in_file", "lines", "log", "logger"]

logger = logging.getLogger("umbel")
_http = logging.getLogger("umbel.http")  # disabled together with "umbel": then it was dictConfig
_COLOURS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}


class _Lines(logging.Handler):
    """Writes to stderr, as it is at that moment, what no handler of the program gets. `through` writes in its place."""

    through: Callable[[str], object] | None = None
    level_is_ours = False  # that of "umbel"

    def emit(self, record: logging.LogRecord) -> None:
        if _handlers_of_the_program():
            return
        with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads: logging would print a traceback there
            text = _format(record, colour=sys.stderr is not None and sys.stderr.isatty())
            if self.through is not None:
                self.through(text)
            elif sys.stderr is not None:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()


lines = _Lines()


def configure() -> None:
    """Sees to it that Umbel's lines appear, by the rules above."""
    if logger.disabled and _http.disabled:
        for name, child in logging.Logger.manager.loggerDict.items():
            if (name == "umbel" or name.startswith("umbel.")) and isinstance(child, logging.Logger):
                child.disabled = False
    if lines not in logger.handlers:
        logger.addHandler(lines)
    says_nothing = logging.getLogger().level == logging.WARNING
    if logger.level == logging.NOTSET and says_nothing:
        logger.setLevel(logging.INFO)
        lines.level_is_ours = True
    elif lines.level_is_ours and logger.level == logging.INFO and not says_nothing:  # the root has been set since
        logger.setLevel(logging.NOTSET)


def log(level: int, message: object, *args: object) -> None:
    """Logs to "umbel": the classic `log(INFO, "text %s", value)`."""
    configure()
    logger.log(level, message, *args)


class _File(logging.FileHandler):
    """A file that gets the lines, too, wherever else they go."""


def keep_in_file(path: str | Path, identifier: str) -> None:
    """Adds a file, in UTF-8, to which each line of "umbel" is written with its time and after `identifier`.

    A file that has been added before is not added again. Raises `OSError` where it cannot be opened.
    """
    file = _File(path, encoding="utf-8", errors="backslashreplace", delay=False)
    if any(isinstance(other, _File) and other.baseFilename == file.baseFilename for other in logger.handlers):
        file.close()
        return
    marked = identifier.replace("%", "%%")
    file.setFormatter(logging.Formatter(f"{marked} | %(levelname)s | %(asctime)s | %(message)s"))
    logger.addHandler(file)


def _handlers_of_the_program() -> bool:
    """Whether somebody else gets what "umbel" says."""
    if any(handler is not lines and not isinstance(handler, _File) for handler in logger.handlers):
        return True
    around = logging.getLogger().handlers if logger.propagate else []
    return any(not isinstance(handler, logging.NullHandler) for handler in around)


def _format(record: logging.LogRecord, *, colour: bool) -> str:
    name = f"{record.levelname:<8}"
    if colour:
        name = f"\x1b[{_COLOURS.get(record.levelname, 0)}m{name}\x1b[0m"
    return f"{name}: {_plain.format(record)}"


_plain = logging.Formatter("%(message)s")
