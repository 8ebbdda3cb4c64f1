"""Ctrl-C and SIGTERM of a server's process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "signals"]


class Terminated(BaseException):
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
    stopping = False

    def on_interrupt(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        if stopping or in_user_code():
            raise KeyboardInterrupt
        stopping = True
        stop()

    def on_terminate(_: int, __: FrameType | None) -> None:
        if in_user_code():
            raise Terminated
        terminate()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_terminate),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
