"""An offer that comes in pieces, since no way to the server lets it through as a whole. Knows bytes, no HTTP.

The pieces wait on the disk: between two requests, a client holds none of the server's memory.
"""

from __future__ import annotations

import zlib

from umbel.runtime.contents import Contents

__all__ = ["Draft"]


class Draft:
    """Takes an offer's bytes, in order."""

    def __init__(self, contents: Contents, name: str) -> None:
        self.received = 0
        self._contents, self._name = contents, name
        self._crc32 = 0
        self._writer = contents.create(name)

    def feed(self, data: bytes) -> None:
        self._writer.write(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self.received += len(data)

    def complete(self, size: int, crc32: int) -> bytes | None:
        """The whole offer; None where it is not the one of this size and checksum. Nothing of it is kept."""
        if self.received != size or self._crc32 != crc32:
            self.abort()
            return None
        self._writer.commit()
        content = self._contents.open(self._name)
        try:
            return content.read(0, size)
        finally:
            content.close()
            self._contents.remove(self._name)

    def abort(self) -> None:
        self._writer.abort()
