"""The memory of a process and all that it started: their own pages, and shared memory once, whoever maps it. Linux only."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["peak_of_tree"]

EVERY = 0.02  # seconds
SHARED = ("/memfd:", "/dev/shm/")


@contextlib.contextmanager
def peak_of_tree(pid: int) -> Iterator[list[int]]:
    """Looks again and again while inside; the list has one number, the most bytes that were seen."""
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            most[0] = max(most[0], _of_tree(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _of_tree(pid: int) -> int:
    own, shared = 0, {}
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(OSError):  # it has just ended
                own += _own_pages(each.pid)
                for inode, size in _shared_files(each.pid):
                    shared[inode] = max(size, shared.get(inode, 0))
    return own + sum(shared.values())


def _own_pages(pid: int) -> int:
    """Its share of anonymous memory and of files; not of shared memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_File:")))


def _shared_files(pid: int) -> Iterator[tuple[int, int]]:
    """Inode and bytes of every piece of shared memory that it holds open, or only mapped."""
    for fd in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(fd.path).startswith(SHARED):
                found = os.stat(fd.path)
                yield found.st_ino, 512 * found.st_blocks
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, _, _, _, inode, *name = line.split(None, 5)
        if name and name[0].startswith(SHARED):
            begin, end = (int(address, 16) for address in span.split("-"))
            yield int(inode), end - begin
