"""One upload on its way into a content file, checked while it is written. Knows bytes, no HTTP."""

from __future__ import annotations

import zlib

from umbel.door import ValueCheck
from umbel.errors import Rejected
from umbel.rounds.messages import Reply
from umbel.runtime.contents import Contents
from umbel.wire import Schema, encode_header

__all__ = ["Upload"]

# Data is checked and written in blocks of this size: a multiple of 8, so that no number is cut in two.
BLOCK = 2**20


class Upload:
    """Takes `schema.nbytes` bytes of data in order. A byte is `received` once it is held here, written in blocks."""

    def __init__(self, contents: Contents, name: str, schema: Schema, reply: Reply, check: ValueCheck | None) -> None:
        self.name = name
        self.schema = schema
        self.reply = reply
        self.received = 0
        self._crc = 0
        self._check = check
        self._written = 0
        self._buffer = bytearray()
        self._writer = contents.create(name)
        self._writer.write(encode_header(schema))

    def feed(self, data: bytes | memoryview) -> None:
        """Takes the next bytes. Raises `Rejected` for values that may not travel, and for more data than offered."""
        self.received += len(data)
        if self.received > self.schema.nbytes:
            raise Rejected(f"{self.received} bytes of data came, {self.schema.nbytes} were offered")
        self._crc = zlib.crc32(data, self._crc)
        self._buffer += data
        if len(self._buffer) >= BLOCK:
            self._flush(len(self._buffer) // 8 * 8)

    def commit(self, crc32: int) -> bool:
        """Makes the content complete; False, and nothing kept, where the data was damaged on its way."""
        if self.received != self.schema.nbytes:
            raise Rejected(f"{self.received} bytes of data came, {self.schema.nbytes} were offered")
        if self._crc != crc32:
            self.abort()
            return False
        self._flush(len(self._buffer))
        self._writer.commit()
        return True

    def abort(self) -> None:
        self._writer.abort()

    def _flush(self, size: int) -> None:
        with memoryview(self._buffer) as view, view[:size] as block:
            if self._check is not None:
                self._check.feed(self._written, block)
            self._writer.write(block)
        self._written += size
        del self._buffer[:size]
