"""What one connection may send beside bodies: a budget of bytes and of fields for each message. Knows no sockets.

A body costs its sender what it costs the server, and has limits of its own. Everything else of a message does not: the
parser collects a field until its end has come, the object for a field is 24 times its bytes, and chunks may carry extensions
that nobody reads. So all of it together is counted, and no message of a federation needs more than a few kilobytes of it.
"""

from __future__ import annotations

__all__ = ["MAX_AHEAD", "MAX_FIELDS", "MAX_HEAD", "PIECE", "Framing", "Overdrawn"]

MAX_HEAD = 2**16  # bytes of a message that are no body: request line, fields, sizes of chunks
MAX_FIELDS = 100
MAX_AHEAD = 8  # messages that are parsed before the first one has its answer; Umbel's clients send none
CRUMB = 2**8  # bytes of a chunk
PIECE = 2**10  # bytes that are parsed before the count is looked at: few requests fit in


class Overdrawn(Exception):
    """A message is refused for what came beside its body; the text says what."""


class Framing:
    """Counts what comes on one connection. The order of calls is the order of the bytes."""

    __slots__ = ("_body", "_fields", "_in_head", "_spent")

    def __init__(self) -> None:
        self._spent = self._fields = 0
        self._in_head = True
        self._body = 0  # bytes that are certain to be body: what is left of an announced length

    def piece(self, size: int) -> int:
        """How many of the `size` bytes that are there the parser gets next: all that can only be body, else a few.

        Raises `Overdrawn` for what it has had.
        """
        if self._spent > MAX_HEAD:
            raise Overdrawn(f"more than {MAX_HEAD:,} bytes of {'a head' if self._in_head else 'what is no body'}")
        size = min(size, self._body or PIECE)
        self._spent += size
        return size

    def begins(self) -> None:
        """A message begins."""
        self._spent = self._fields = 0
        self._in_head = True

    def field(self) -> None:
        """A field of the message. Raises `Overdrawn`."""
        if not self._in_head:
            raise Overdrawn("fields after a body (trailers), which nothing here needs")
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise Overdrawn(f"a head of more than {MAX_FIELDS} fields")

    def head_ends(self, length: int) -> None:
        """The head is complete, and announces a body of `length` bytes; 0 where it announces none."""
        self._in_head = False
        self._body = length

    def body(self, size: int) -> None:
        """Bytes of a body. Crumbs count for what they cost: a chunk of one byte takes as long as one of a kilobyte."""
        self._spent -= size if size >= CRUMB or self._body else size - CRUMB // 4
        self._body = max(self._body - size, 0)
