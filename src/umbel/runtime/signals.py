"""Ctrl-C and SIGTERM of a server's process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from umbel.accidents import Interruption

__all__ = ["Terminated", "signals"]


class Terminated(Interruption):
    """SIGTERM: the process must go, and the run is to be continued."""


@contextmanager
def signals(
    *, stop: Callable[[], None], terminate: Callable[[], None], in_user_code: Callable[[], bool]
) -> Iterator[None]:
    """While inside: Ctrl-C calls `stop`, SIGTERM calls `terminate`; user code is interrupted by an exception instead.

    A second Ctrl-C always raises KeyboardInterrupt. Outside of the main thread nothing is installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping, process = False, os.getpid()

    def on_interrupt(number: int, __: FrameType | None) -> None:
        nonlocal stopping
        if os.getpid() != process:
            again(number)
        elif stopping or in_user_code():
            raise KeyboardInterrupt
        else:
            stopping = True
            stop()

    def on_terminate(number: int, __: FrameType | None) -> None:
        if os.getpid() != process:
            again(number)
        elif in_user_code():
            raise Terminated
        else:
            terminate()

    def again(number: int) -> None:
        """In a process that user code has forked: there the signal means what it did before."""
        signal.signal(number, before[number])
        os.kill(os.getpid(), number)

    before: dict[int, Any] = {
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_terminate),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
