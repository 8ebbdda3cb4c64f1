"""One upload on its way into a content file, checked while it is written. Knows bytes, no HTTP."""

from __future__ import annotations

import hmac
import zlib
from typing import TYPE_CHECKING

from umbel.door import ValueCheck
from umbel.errors import Rejected
from umbel.rounds.messages import Reply
from umbel.runtime.contents import Contents
from umbel.runtime.crc import join_crc32
from umbel.wire import Schema, encode_header

if TYPE_CHECKING:
    from blake3 import blake3

__all__ = ["Upload"]

# No dtype has larger items, and data lie aligned: a block of whole ITEMs cuts no number in two.
ITEM = 8


class Upload:
    """Takes `schema.nbytes` bytes of data, in order.

    A byte is `received` once it is written, or held here as a part of a number. `digest` has the data to come, where their
    sender signs for all of them in the end.
    """

    def __init__(
        self,
        contents: Contents,
        name: str,
        schema: Schema,
        reply: Reply,
        check: ValueCheck | None,
        digest: blake3 | None = None,
    ) -> None:
        self.name = name
        self.schema = schema
        self.reply = reply
        self.received = 0
        self._digest = digest
        self._check = check
        self._written = 0
        self._rest = bytearray()  # less than ITEM bytes
        self._writer = contents.create(name)
        header = encode_header(schema)
        self._header_crc32 = zlib.crc32(header)
        self._writer.write(header)

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises `Rejected` for values that may not travel, and for more data than offered."""
        self.received += len(data)
        if self.received > self.schema.nbytes:
            raise Rejected(f"{self.received} bytes of data came, {self.schema.nbytes} were offered")
        if self._digest is not None:
            self._digest.update(data)
        view = memoryview(data)
        if self._rest:  # the beginning of a number whose end is in this chunk
            missing = ITEM - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < ITEM:
                return
            self._write(memoryview(bytes(self._rest)))
            self._rest.clear()
        whole = len(view) // ITEM * ITEM
        self._write(view[:whole])  # as it came, without a copy
        self._rest += view[whole:]

    def commit(self, crc32: int, digest: bytes = b"") -> bool:
        """Makes the content complete, and puts into the reply what the check has found.

        False, and nothing kept, where the data was damaged, or changed, on its way. Raises `Rejected` as `feed` does, and
        for a norm that is too large.
        """
        if self.received != self.schema.nbytes:
            raise Rejected(f"{self.received} bytes of data came, {self.schema.nbytes} were offered")
        self._write(memoryview(bytes(self._rest)))  # a last number may be shorter
        changed = self._digest is not None and not hmac.compare_digest(self._digest.digest(), digest)
        if changed or self._writer.crc32 != join_crc32(self._header_crc32, crc32, self.received):
            self.abort()
            return False
        if self._check is not None:
            self.reply = self._check.note(self.reply)
        self._writer.commit()
        return True

    def abort(self) -> None:
        self._writer.abort()

    def _write(self, block: memoryview) -> None:
        if self._check is not None:
            self._check.feed(self._written, block)
        self._writer.write(block)
        self._written += len(block)
