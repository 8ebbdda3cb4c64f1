"""Content files: models and updates, whole safetensors files under names of their own.

Knows bytes and names; knows no rounds. A name is given once and its bytes never change: a writer works under a temporary
name until `commit`, so whatever can be opened is complete.
"""

from __future__ import annotations

import os
import secrets
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from umbel.combine import Source
from umbel.errors import StoreError
from umbel.exchange import Parameters
from umbel.wire import Schema, encode_header, parse_header

__all__ = ["Content", "Contents", "FileContents", "MemoryContents", "Writer", "as_parameters", "write_content"]

BLOCK = 1 << 20


class Writer(Protocol):
    """Bytes on their way into a content."""

    def write(self, data: bytes | memoryview) -> None: ...
    def commit(self, crc32: int | None = None) -> None: ...
    def abort(self) -> None: ...


class Content(ABC):
    """A complete content, read at random. Base of both kinds: what differs is `read_into`."""

    size: int

    @abstractmethod
    def read_into(self, offset: int, out: memoryview) -> None:
        """Fills `out` with the file's bytes from `offset` on."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what reading needed."""

    def read(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    @cached_property
    def data_begin(self) -> int:
        """First byte after the header."""
        return 8 + int.from_bytes(self.read(0, 8), "little")

    @cached_property
    def schema(self) -> Schema:
        return parse_header(self.read(0, self.data_begin))

    @cached_property
    def crc32(self) -> int:
        """Of the whole file."""
        crc = 0
        for block in self.blocks(0):
            crc = zlib.crc32(block, crc)
        return crc

    @property
    def source(self) -> Source:
        """Reads data bytes, counted from the end of the header."""
        begin = self.data_begin
        return lambda start, out: self.read_into(begin + start, out)

    def blocks(self, start: int) -> Iterator[memoryview]:
        """The file's bytes from `start` on; a view is valid until the next."""
        buffer = memoryview(bytearray(min(BLOCK, max(self.size - start, 0))))
        while start < self.size:
            view = buffer[: self.size - start]
            self.read_into(start, view)
            start += len(view)
            yield view


class Contents(Protocol):
    """A place for contents."""

    def create(self, name: str) -> Writer: ...
    def open(self, name: str) -> Content: ...
    def remove(self, name: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def keep_only(self, names: Iterable[str]) -> None: ...


def write_content(contents: Contents, name: str, schema: Schema, blocks: Iterable[memoryview]) -> None:
    """Writes header and data; nothing is left behind if the blocks fail half-way."""
    writer = contents.create(name)
    header = encode_header(schema)
    crc32 = zlib.crc32(header)
    try:
        writer.write(header)
        for block in blocks:
            writer.write(block)
            crc32 = zlib.crc32(block, crc32)  # here, while the block is in the cache; 3 GB/s
    except BaseException:
        writer.abort()
        raise
    writer.commit(crc32)


def as_parameters(content: Content) -> Parameters:
    """Parameters that are read from the content when somebody asks for them."""
    return Parameters.lazy(content.schema, lambda: content.blocks(content.data_begin), content.source)


class FileContents:
    """Contents in a folder. `power` flushes every one to the disk before its name appears."""

    def __init__(self, folder: Path, *, power: bool = False) -> None:
        self.folder = folder
        self.power = power
        self._crcs: dict[Path, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, name: str) -> Writer:
        return _FileWriter(self, self._path(name))

    def open(self, name: str) -> Content:
        try:
            content = _FileContent(self._path(name))
        except FileNotFoundError:
            raise StoreError(f"the content {name!r} is missing from {self.folder}") from None
        if content.path in self._crcs:
            content.crc32 = self._crcs[content.path]
        return content

    def remove(self, name: str) -> None:
        self._crcs.pop(self._path(name), None)
        self._path(name).unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.replace(self._path(old), self._path(new))
        crc32 = self._crcs.pop(self._path(old), None)
        self._crcs.pop(self._path(new), None)  # of the content that had this name before
        if crc32 is not None:
            self._crcs[self._path(new)] = crc32

    def publish(self, temporary: Path, path: Path, crc32: int | None) -> None:
        """Gives a complete file its name."""
        os.replace(temporary, path)
        if crc32 is not None:
            self._crcs[path] = crc32
        if self.power:
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def keep_only(self, names: Iterable[str]) -> None:
        kept = {self._path(name) for name in names}
        for path in self.folder.iterdir():
            if path.suffix in (".safetensors", ".part") and path not in kept:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class _FileWriter:
    def __init__(self, contents: FileContents, path: Path) -> None:
        self._contents, self._path = contents, path
        self._temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part")
        self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                raise StoreError(error.errno, f"cannot write {self._path.name}: {error.strerror}") from error
            view = view[written:]

    def commit(self, crc32: int | None = None) -> None:
        if self._contents.power:
            os.fsync(self._fd)
        os.close(self._fd)
        self._contents.publish(self._temporary, self._path, crc32)

    def abort(self) -> None:
        os.close(self._fd)
        self._temporary.unlink(missing_ok=True)


class _FileContent(Content):
    _fd = -1  # where opening fails, there is nothing to close

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size

    def read_into(self, offset: int, out: memoryview) -> None:
        # preadv, not mmap: pages of a map count as resident
        while out:
            got = os.preadv(self._fd, [out], offset)
            if not got:
                raise StoreError(f"{self.path.name} ends at byte {offset}")
            out, offset = out[got:], offset + got

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)  # no buffer to be zeroed first
        return data if len(data) == size else super().read(offset, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class MemoryContents:
    """Contents in memory: for tests and small runs in one process."""

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

    def rename(self, old: str, new: str) -> None:
        self._bytes[new] = self._bytes.pop(old)

    def keep_only(self, names: Iterable[str]) -> None:
        kept = set(names)
        for name in [name for name in self._bytes if name not in kept]:
            del self._bytes[name]


class _MemoryWriter:
    def __init__(self, target: dict[str, bytes], name: str) -> None:
        self._target, self._name, self._buffer = target, name, bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._buffer += data

    def commit(self, crc32: int | None = None) -> None:
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
