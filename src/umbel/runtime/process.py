"""What a server asks of its process: open files enough, and a memory allocator that keeps what it has."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from umbel.errors import TooFewFiles

__all__ = ["keep_standard_files", "need_files", "prepare", "spare_files", "too_few_files"]

_RESERVED = 256  # open files that are no connections: the journal, contents, what libraries need
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def prepare() -> None:
    """Raises the limit of open files to what is allowed: a connection is one, and so is each update of a step.

    On glibc, also keeps freed buffers of up to 32 MiB: else every megabyte that a request brings is mapped, faulted in and
    unmapped again, and uploads come in at half the speed.
    """
    keep_standard_files()
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


def keep_standard_files() -> None:
    """Where a program was started with stdin, stdout or stderr closed, their numbers are taken by the null device.

    Else a model or a database would get one of them, and whatever C code prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which takes the lowest number that is free


def need_files(least: int, what: str) -> None:
    """Raises `TooFewFiles` where this process may open fewer files than `least`."""
    with contextlib.suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < least:
            raise TooFewFiles(f"{too_few_files()}; {what} needs {least}")


def too_few_files() -> str:
    """What to say where no more files may be opened."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except ImportError:  # no such limit on this platform
        return "too many open files on this machine; close some"
    most = "unlimited" if hard == resource.RLIM_INFINITY else hard
    return f"this process may open {soft} files (ulimit -n; at most {most}), which are too few: raise the limit"
