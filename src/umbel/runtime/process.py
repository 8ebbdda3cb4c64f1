"""What a server asks of its process: open files enough, and a memory allocator that keeps what it has."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["prepare", "spare_files"]

_RESERVED = 256  # open files that are no connections: the journal, contents, what libraries need
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def prepare() -> None:
    """Raises the limit of open files to what is allowed: a connection is one, and so is each update of a step.

    On glibc, also keeps freed buffers of up to 32 MiB: else every megabyte that a request brings is mapped, faulted in and
    unmapped again, and uploads come in at half the speed.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
            mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def spare_files() -> int:
    """How many of the files that this process may open can be connections."""
    try:
        import resource
    except ImportError:  # no such limit on this platform
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - _RESERVED, soft // 2)
