"""Several blocks at a time: `map` over threads. numpy leaves the interpreter's lock while it computes on a block."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["spread"]

_A = TypeVar("_A")
_B = TypeVar("_B")

INLINE = 4  # items that are not worth a thread
WORKERS = min(os.cpu_count() or 1, 8)


def spread(function: Callable[[_A], _B], items: Iterable[_A], /) -> Iterator[_B]:
    """As `map`: the results in order. At most twice as many items as workers are under way or waiting to be taken.

    >>> list(spread(abs, range(-9, 0)))
    [9, 8, 7, 6, 5, 4, 3, 2, 1]
    """
    left = iter(items)
    yield from map(function, islice(left, INLINE if WORKERS > 1 else None))
    begun: deque[Future[_B]] = deque()
    first = next(left, None)
    if first is None:
        return
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="umbel-block") as pool:
        begun.append(pool.submit(function, first))
        try:
            for item in left:
                begun.append(pool.submit(function, item))
                if len(begun) >= 2 * WORKERS:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
