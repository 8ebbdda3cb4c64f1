"""Content files: models and updates, whole safetensors files under names of their own.

Knows bytes and names; knows no rounds. A name is given once and its bytes never change: a writer works under a temporary
name until `commit`, so whatever can be opened is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Protocol

from umbel.dialogue import Parameters
from umbel.errors import ContentDamaged, StoreError, StoreUnavailable
from umbel.runtime.failpoints import failpoint
from umbel.runtime.retry import PATIENCE
from umbel.runtime.sums import Sum, Sums
from umbel.wire import Schema, Source, encode_header, parse_header

__all__ = ["Content", "Contents", "FileContents", "Writer", "as_parameters", "creating", "write_content"]

BLOCK = 1 << 20
HELD = 1 << 14  # bytes that are written together with what follows
_SUFFIX = ".safetensors"
FORGIVEN = 15.0  # seconds without a try, after which a disk that refuses has refused for the first time
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}  # what may be over in a while


class Writer(Protocol):
    """Bytes on their way into a content. `crc32` is that of what has been written so far."""

    @property
    def crc32(self) -> int: ...
    def write(self, data: bytes | memoryview) -> None: ...
    def commit(self) -> None: ...
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
    """A place for contents. `patience`: seconds that a place which refuses is worth to be tried again."""

    patience: float

    def create(self, name: str) -> Writer: ...
    def open(self, name: str) -> Content: ...
    def remove(self, name: str) -> None: ...
    def link(self, old: str, new: str) -> None: ...
    def keep_only(self, names: Iterable[str]) -> None: ...
    def digest(self, name: str) -> bytes | None: ...


@contextmanager
def creating(contents: Contents, name: str) -> Iterator[Writer]:
    """A writer whose content is there once the block ends; nothing is left behind if it fails half-way."""
    writer = contents.create(name)
    try:
        yield writer
    except BaseException:
        writer.abort()
        raise
    writer.commit()


def write_content(contents: Contents, name: str, schema: Schema, blocks: Iterable[memoryview]) -> None:
    """Writes header and data; nothing is left behind if the blocks fail half-way."""
    with creating(contents, name) as writer:
        writer.write(encode_header(schema))
        for block in blocks:
            failpoint("content.between-blocks")
            writer.write(block)


def as_parameters(content: Content) -> Parameters:
    """Parameters that are read from the content when somebody asks for them."""
    return Parameters.lazy(content.schema, lambda: content.blocks(content.data_begin), content.source)


class FileContents:
    """Contents in a folder.

    - `power` flushes every one to the disk before its name appears, and the folder after.
    - `digests` keeps the BLAKE2b digest of each content that is written, until it is removed.
    - `sums` knows what was written under each name; a file that is not that cannot be opened.
    - `patience`: a disk that refuses to write is `StoreUnavailable` for so many seconds, and then a `StoreError`.
    """

    def __init__(
        self, folder: Path, *, power: bool = False, digests: bool = False, patience: float = PATIENCE
    ) -> None:
        self.folder = folder
        self.power = power
        self.digests = digests
        self.patience = patience
        self._refused: tuple[float, float] | None = None  # first and last time of a disk that refuses
        self.sums = Sums()
        self._digests: dict[str, bytes] = {}
        self._begin = f"{folder}{os.sep}"  # paths as texts: to make, and to name, `Path`s took a tenth of a small round
        self._mine, self._number = secrets.token_hex(4), count()
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, name: str) -> Writer:
        with self.refusals(name):
            return _FileWriter(self, name)

    def open(self, name: str) -> Content:
        """The content, which is what was written. Raises `ContentDamaged` where it is not, or is gone."""
        path, known = self._path(name), self.sums.get(name)
        try:
            content = _FileContent(path)
        except FileNotFoundError:
            if known is not None:
                raise ContentDamaged(f"{path} is gone") from None
            raise StoreError(f"the content {name!r} is missing from {self.folder}") from None
        except OSError as error:  # no right to read it, too many open files: it may be whole
            raise StoreUnavailable(error.errno, f"{path} cannot be opened: {error.strerror}") from error
        try:
            if not content.is_file:
                raise ContentDamaged(f"{path} is not a file any more")
            self.sums.check(name, content.fd, content.status, path)
        except BaseException:
            content.close()
            raise
        if known is not None:
            content.crc32 = known.crc32
        return content

    def remove(self, name: str) -> None:
        self.sums.drop([name])
        self._digests.pop(name, None)
        _unlink(self._path(name))

    def link(self, old: str, new: str) -> None:
        """Gives a content a second name."""
        self.open(old).close()  # as long as that is what was written
        path = self._path(old)
        temporary = self.temporary(new)
        with self.refusals(new):
            try:
                os.link(path, temporary)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
                shutil.copyfile(path, temporary)  # a file system without links
        self._name(temporary, new, self.sums.get(old), self.digest(old))
        _unlink(temporary)  # to rename one link over another of the same file does nothing

    def publish(self, temporary: str, name: str, written: Sum, digest: bytes | None) -> None:
        """Gives a complete file its name."""
        self._name(temporary, name, written, digest)
        self._refused = None

    def keep_only(self, names: Iterable[str]) -> None:
        kept = set(names)
        files = {f"{name}{_SUFFIX}" for name in kept}
        for file in os.listdir(self.folder):
            if file.endswith((_SUFFIX, ".part")) and file not in files:
                failpoint("content.sweeping")
                _unlink(self._begin + file)
        self.sums.keep_only(kept)

    def digest(self, name: str) -> bytes | None:
        return self._digests.get(name)

    @contextlib.contextmanager
    def refusals(self, name: str) -> Iterator[None]:
        """Inside, what the disk refuses becomes a `StoreUnavailable`, or a `StoreError` where that has lasted for long."""
        try:
            yield
        except OSError as error:
            text = f"cannot write {name} in {self.folder}: {error.strerror or error}"
            now = time.monotonic()
            since, last = self._refused or (now, now)
            self._refused = (now if now - last > FORGIVEN else since), now
            if error.errno in PASSING and now - self._refused[0] < self.patience:
                raise StoreUnavailable(error.errno, text) from error
            raise StoreError(error.errno, text) from error

    def _name(self, temporary: str, name: str, written: Sum | None, digest: bytes | None) -> None:
        self.sums.drop([name])  # of the content that had this name before
        self._digests.pop(name, None)
        path = self._path(name)
        with self.refusals(name):
            failpoint("content.before-rename")
            os.replace(temporary, path)
            failpoint("content.after-rename")
            if self.power:
                folder = os.open(self.folder, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        if written is not None:
            self.sums.put(name, written, os.stat(path))
        if digest is not None:
            self._digests[name] = digest

    def temporary(self, name: str) -> str:
        """A path of its own for a content that is not complete yet."""
        return f"{self._begin}.{name}-{self._mine}-{next(self._number)}.part"

    def _path(self, name: str) -> str:
        return f"{self._begin}{name}{_SUFFIX}"


class _FileWriter:
    def __init__(self, contents: FileContents, name: str) -> None:
        self._contents, self._name = contents, name
        self._digest = blake2b(digest_size=32) if contents.digests else None
        self._size = self.crc32 = 0
        self._held = b""  # not written so far: the header goes with the data
        self._temporary = contents.temporary(name)
        self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if self._digest is not None:
            self._digest.update(view)
        self._size += view.nbytes
        self.crc32 = zlib.crc32(view, self.crc32)  # here, while the block is in the cache; 3 GB/s
        if len(self._held) + view.nbytes <= HELD:
            self._held += view
            return
        self._flush()
        self._write(view)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        self._write(memoryview(held))

    def _write(self, view: memoryview) -> None:
        while view:
            with self._contents.refusals(self._name):
                written = os.write(self._fd, view)
            view = view[written:]

    def commit(self) -> None:
        try:
            self._flush()
            with self._contents.refusals(self._name):
                if self._contents.power:
                    os.fsync(self._fd)
                fd, self._fd = self._fd, -1
                os.close(fd)
            digest = None if self._digest is None else self._digest.digest()
            self._contents.publish(self._temporary, self._name, Sum(self._size, self.crc32), digest)
        except StoreError:
            self.abort()
            raise

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _unlink(self._temporary)


def _unlink(path: str) -> None:
    """Raises `StoreError` where what has that name cannot be removed: a folder, or somebody else's."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}; remove it yourself and start again") from error


class _FileContent(Content):
    fd = -1  # where opening fails, there is nothing to close

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would be waited for without end
        self.status = os.fstat(self.fd)
        self.size, self.is_file = self.status.st_size, stat.S_ISREG(self.status.st_mode)

    def read_into(self, offset: int, out: memoryview) -> None:
        # preadv, not mmap: pages of a map count as resident
        while out:
            try:
                got = os.preadv(self.fd, [out], offset)
            except OSError as error:
                raise ContentDamaged(f"{self.path} cannot be read: {error.strerror}") from error
            if not got:
                raise ContentDamaged(f"{self.path} ends at byte {offset}")
            out, offset = out[got:], offset + got

    def read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self.fd, size, offset)  # no buffer to be zeroed first
        except OSError:
            data = b""
        return data if len(data) == size else super().read(offset, size)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __del__ = close
