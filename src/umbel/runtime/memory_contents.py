"""Contents in memory, where nothing is to be kept: the same names and rules as files have."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from umbel.errors import StoreError
from umbel.runtime.contents import Content, Writer

__all__ = ["MemoryContents"]


class MemoryContents:
    """Contents in memory: for tests and small runs in one process."""

    patience = 0.0

    def __init__(self) -> None:
        self._bytes: dict[str, bytes] = {}

    def create(self, name: str) -> Writer:
        return _MemoryWriter(self._bytes, name)

    def open(self, name: str) -> Content:
        try:
            return _MemoryContent(self._bytes[name])
        except KeyError:
            raise StoreError(f"the content {name!r} is missing") from None

    def remove(self, name: str) -> None:
        self._bytes.pop(name, None)

    def link(self, old: str, new: str) -> None:
        self._bytes[new] = self._bytes[old]

    def keep_only(self, names: Iterable[str]) -> None:
        kept = set(names)
        for name in [name for name in self._bytes if name not in kept]:
            del self._bytes[name]

    def digest(self, name: str) -> bytes | None:
        return None


class _MemoryWriter:
    def __init__(self, target: dict[str, bytes], name: str) -> None:
        self._target, self._name, self._buffer = target, name, bytearray()

    @property
    def crc32(self) -> int:
        return zlib.crc32(self._buffer)

    def write(self, data: bytes | memoryview) -> None:
        self._buffer += data

    def commit(self) -> None:
        self._target[self._name] = bytes(self._buffer)

    def abort(self) -> None:
        self._buffer.clear()


class _MemoryContent(Content):
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.size = len(data)

    def read_into(self, offset: int, out: memoryview) -> None:
        out[:] = self._data[offset : offset + len(out)]

    def close(self) -> None:
        pass
