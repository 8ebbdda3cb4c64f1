"""Doing what may be refused for a while, by a full disk or an absent database. Knows nothing of what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from umbel.errors import StoreError, StoreUnavailable
from umbel.runtime.log import logger

__all__ = ["PATIENCE", "retry"]

PATIENCE = 60.0  # seconds that a store may refuse before the run stops
LONGEST_PAUSE = 2.0  # seconds between two tries
SAY_EVERY = 10.0  # seconds between two lines about it

T = TypeVar("T")


def retry(action: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """What `action` returns; tried again while it raises `StoreUnavailable`, for `patience` seconds.

    Raises `StoreError` when patience ends, and whatever else `action` raises at once.
    """
    began, pause, said_at = time.monotonic(), 0.05, 0.0
    while True:
        try:
            result = action()
        except StoreUnavailable as refusal:
            if not patience:
                raise StoreError(str(refusal)) from refusal
            waited = time.monotonic() - began
            if waited >= patience:
                raise StoreError(
                    f"{refusal} (tried for {waited:.0f} s). Nothing is half-written: mend it, start the same server again, "
                    "and the run goes on"
                ) from refusal
            if not said_at or waited - said_at >= SAY_EVERY:
                said_at = max(waited, 1e-9)
                logger.warning("%s; trying again, for up to %.0f s", refusal, patience - waited)
            threading.Event().wait(min(pause, patience - waited))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if said_at:
                logger.info("The store works again, after %.1f s", time.monotonic() - began)
            return result
