"""How a call ends in a script, in a notebook and in a thread."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from umbel.errors import ContentDamaged, ListenerFailed, RunLocked, RunMismatch, StoreError, TooFewFiles
from umbel.runtime.log import logger
from umbel.runtime.process import too_few_files

__all__ = ["CellStopped", "exit_code", "in_notebook", "is_script", "one_line"]


class CellStopped(KeyboardInterrupt):
    """Ctrl-C has ended a run, and ends the cell of the notebook, too. `history` is the History of the rounds so far."""

    def __init__(self, history: object) -> None:
        super().__init__("the run was stopped by Ctrl-C; sys.last_value.history has what it did")
        self.history = history


def in_notebook() -> bool:
    """Whether a person types at this interpreter: IPython, a notebook, or Python's own prompt."""
    return "get_ipython" in vars(sys.modules["builtins"]) or hasattr(sys, "ps1")


def is_script() -> bool:
    """Whether the caller is a program's main thread, so that ending the process is right."""
    return threading.current_thread() is threading.main_thread() and not in_notebook()


@contextmanager
def exit_code(line: str) -> Iterator[None]:
    """Ctrl-C inside ends a script with one line and exit code 130; elsewhere KeyboardInterrupt passes through."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_script():
            raise
        logger.info("%s", line)
        raise SystemExit(130) from None


@contextmanager
def one_line() -> Iterator[None]:
    """Ends a script with one line and exit code 1 where a store fails, a run is another's, the network's thread has ended,
    or no more files may be opened; elsewhere these errors are raised.
    """
    try:
        yield
    except (StoreError, RunLocked, RunMismatch, ListenerFailed, TooFewFiles) as error:
        if not is_script():
            raise
        remedy = ". Start again: the run goes back to what is whole" if isinstance(error, ContentDamaged) else ""
        said = error.strerror if isinstance(error, StoreError) and error.strerror else error  # without "[Errno 2]"
        sys.exit(f"umbel: {said}{remedy}")
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or not is_script():
            raise
        sys.exit(f"umbel: {too_few_files()}")
