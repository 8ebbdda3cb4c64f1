"""What user code raises, in words: one line with its place, and the traceback. Knows no tasks and no rounds.

User code may raise what derives from `BaseException` alone, too: `sys.exit()`, argparse and `quit()` raise `SystemExit`, a
cancelled coroutine `CancelledError`. All of it is reported. What is no accident passes: Ctrl-C, an `Interruption` by Umbel
itself, and the `SystemExit` of a signal handler, or of a process that the user's code has forked.
"""

from __future__ import annotations

import os
import signal
import sysconfig
import traceback
from bdb import BdbQuit
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from umbel.dialogue import as_text

__all__ = ["Interruption", "describe", "ends_the_run", "format_traceback", "is_an_end", "line_of", "message_of"]

LONGEST_LINE = 2000  # characters
LONGEST_TRACEBACK = 20_000
_HERE = str(Path(__file__).parent) + os.sep
_LIBRARIES = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_ELSEWHERE = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Interruption(BaseException):
    """Umbel ends what user code is at: a task whose time is over, a process that must go. No user code is to catch it."""


def is_an_end(error: BaseException, process: int) -> bool:
    """Whether the error is to end more than the task. `process` is the number of the process in which the task began."""
    if isinstance(error, (KeyboardInterrupt, BdbQuit)):
        return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # else nobody can have pressed Ctrl-C
    if isinstance(error, SystemExit):
        return os.getpid() != process or _by_handler(error)
    return isinstance(error, Interruption)


def ends_the_run(error: BaseException) -> bool:
    """Whether what a function of the owner's has raised is meant to end the run: the owner may call `sys.exit()`.

    >>> ends_the_run(SystemExit(3)), ends_the_run(GeneratorExit())
    (True, False)
    """
    return isinstance(error, SystemExit) or is_an_end(error, os.getpid())


def describe(what: str, error: BaseException) -> str:
    """One line: "fit raised ValueError: no data (train.py:12)". The place is the innermost line of the user's own.

    >>> describe("fit", ValueError("no data"))
    'fit raised ValueError: no data'
    """
    said, line = message_of(error), line_of(error)
    place = "" if line is None else f" ({as_text(os.path.basename(line[0]))}:{line[1]})"
    text = f"{what} raised {type(error).__name__}" + (f": {said}" if said else "")
    return text[: LONGEST_LINE - len(place)] + place


def message_of(error: BaseException) -> str:
    """`str(error)` as text that can be written, whatever the error is."""
    try:
        return as_text(error)
    except BaseException as another:  # its __str__ is user code, too
        if is_an_end(another, os.getpid()):
            raise
        return "(it cannot say why: its __str__ raises)"


def format_traceback(error: BaseException) -> str:
    """The traceback from the user's first line on: how it was called is not what went wrong."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None and at.tb_frame.f_code.co_filename.startswith(_HERE):
        at = at.tb_next
    try:
        lines = traceback.format_exception(type(error), error, at, limit=-20)
    except Exception:  # it shows the error's notes and causes, which are user code, too
        lines = traceback.format_tb(at, limit=-20)
    return as_text("".join(lines))[-LONGEST_TRACEBACK:]


def line_of(error: BaseException) -> tuple[str, int] | None:
    """File and line of the innermost place in the user's own code, else in a library; None where all lines are Umbel's."""
    frames = [(at.tb_frame.f_code.co_filename, at.tb_lineno) for at in _entries(error)]
    outside = [(file, line) for file, line in frames if not file.startswith(_HERE)]
    own = [(file, line) for file, line in outside if not _is_library(file)]
    found = own or outside
    return found[-1] if found else None


def _is_library(file: str) -> bool:
    return file.startswith(("<frozen ", *_LIBRARIES)) or any(part in file for part in _ELSEWHERE)


def _by_handler(error: BaseException) -> bool:
    """Whether the error comes out of a signal handler that the program has installed."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    return any(at.tb_frame.f_code in handlers for at in _entries(error))


def _entries(error: BaseException) -> Iterator[TracebackType]:
    at = error.__traceback__
    while at is not None:
        yield at
        at = at.tb_next
