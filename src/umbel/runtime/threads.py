"""How many threads numerical libraries use: the bits of a matrix product depend on it, and so does everybody's speed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["ENVIRONMENT", "cap_threads", "environment"]

# What libraries read when they are imported.
ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def environment(threads: int) -> dict[str, str]:
    """Environment variables that give a new process so many threads."""
    return dict.fromkeys(ENVIRONMENT, str(threads))


@contextlib.contextmanager
def cap_threads(threads: int) -> Iterator[None]:
    """Libraries that are imported already use `threads` threads each while inside, and so do those imported there."""
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(environment(threads))
    torch = sys.modules.get("torch")
    torch_before = None if torch is None else torch.get_num_threads()
    try:
        with threadpool_limits(threads):
            if torch is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        if torch is not None and torch_before is not None:
            torch.set_num_threads(torch_before)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
