"""Whether a content file is what was written: its size and crc32, as they were then, against the bytes that are there now.

A file is read once for it; afterwards its inode, size and time of change tell that nobody has touched it since.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from umbel.errors import ContentDamaged, WireError
from umbel.wire import MAX_HEADER, parse_header

__all__ = ["Changes", "Sum", "Sums"]

BLOCK = 1 << 20

Changes = deque[tuple[str, "Sum | None"]]  # contents that were completed, with their sums, or removed, in order


class Sum(NamedTuple):
    """What tells a content from another, and from what is left of it."""

    size: int
    crc32: int


class _Stamp(NamedTuple):
    """What changes when somebody writes to a file, or puts another in its place."""

    inode: int
    size: int
    changed: int  # ns


class Sums:
    """The sums of the contents of one folder, by name. Safe to use from several threads: each entry is replaced whole."""

    def __init__(self) -> None:
        self._known: dict[str, Sum] = {}
        self._stamps: dict[str, _Stamp] = {}  # of files that have been found whole
        self._digests: dict[str, bytes] = {}  # BLAKE2b, of what an audit tells of
        self._changes: Changes | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def get(self, name: str) -> Sum | None:
        return self._known.get(name)

    def changes(self) -> Changes:
        """From now on has every content that is completed or removed."""
        self._changes = deque()
        return self._changes

    def expect(self, sums: Mapping[str, Sum], digests: Mapping[str, bytes]) -> None:
        """These were written by an earlier process; whether they are still what they were shows when they are checked."""
        self._digests.update(digests)
        for name, known in sums.items():
            self._known[name] = known
            self._stamps.pop(name, None)

    def put(self, name: str, written: Sum, status: os.stat_result) -> None:
        """This process has completed a content."""
        self._known[name], self._stamps[name] = written, _stamp(status)
        if self._changes is not None:
            self._changes.append((name, written))

    def keep_only(self, names: Iterable[str]) -> None:
        """All others are removed."""
        self.drop(self._known.keys() - set(names))

    def drop(self, names: Iterable[str]) -> None:
        """These contents are removed."""
        for name in names:
            self._stamps.pop(name, None)
            self._digests.pop(name, None)
            if self._known.pop(name, None) is not None and self._changes is not None:
                self._changes.append((name, None))

    def untouched(self, name: str, status: os.stat_result) -> bool:
        """Whether this file has been found whole, and nobody has touched it since."""
        return self._stamps.get(name) == _stamp(status)

    def check(self, name: str, fd: int, status: os.stat_result, path: str) -> None:
        """Raises `ContentDamaged` where the open file is not what was written under this name; free where it was checked."""
        if self.untouched(name, status):
            return
        known = self._known.get(name)
        try:
            if known is None:
                _check_form(fd, status.st_size, path)
            elif status.st_size != known.size:
                raise ContentDamaged(f"{path} is damaged: it has {status.st_size:,} bytes, {known.size:,} were written")
            elif not _has(fd, known.crc32, self._digests.get(name)):
                raise ContentDamaged(f"{path} is damaged: its {known.size:,} bytes are not those that were written")
        except ContentDamaged:
            raise
        except OSError as error:
            raise ContentDamaged(f"{path} cannot be read: {error.strerror}") from error
        self._stamps[name] = _stamp(status)


def _check_form(fd: int, size: int, path: str) -> None:
    """Raises `ContentDamaged` for what is no content at all: what shows where no sum was kept, by an older Umbel."""
    begin = 8 + int.from_bytes(os.pread(fd, 8, 0), "little")
    try:
        if not 8 < begin <= size:
            raise WireError("its header is cut off")
        schema = parse_header(os.pread(fd, min(begin, MAX_HEADER + 9), 0))
        if begin + schema.nbytes != size:
            raise WireError(f"it has {size:,} bytes, its header describes {begin + schema.nbytes:,}")
    except WireError as error:
        raise ContentDamaged(f"{path} is damaged: {error}") from None


def _has(fd: int, crc32: int, digest: bytes | None) -> bool:
    """Whether the file has this crc32 and, where an audit tells of it, this digest."""
    buffer = memoryview(bytearray(BLOCK))
    crc, offset, hasher = 0, 0, None if digest is None else blake2b(digest_size=32)
    while got := os.preadv(fd, [buffer], offset):
        crc, offset = zlib.crc32(buffer[:got], crc), offset + got
        if hasher is not None:
            hasher.update(buffer[:got])
    return crc == crc32 and (hasher is None or hasher.digest() == digest)


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
