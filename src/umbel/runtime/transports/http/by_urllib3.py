"""Connections whose small requests go out in one piece, head and body. Knows bytes; knows no requests' meaning.

`http.client` sends a head, and then a body: two system calls, two packets, and a server that is woken twice for one message.
"""

from __future__ import annotations

from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["in_one_piece"]

PIECE = 2**16  # bytes of what is sent in one piece


class _InOnePiece:
    """Before a connection class of urllib3: holds what is sent until the request is complete, or too long."""

    _held: bytearray | None = None

    def request(self, *arguments: Any, **named: Any) -> None:
        self._held = bytearray()
        try:
            super().request(*arguments, **named)  # type: ignore[misc]  # of the class that stands behind this one
            self._release()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        if self._held is not None and len(self._held) + len(data) <= PIECE:
            self._held += data
        else:
            self._release()
            super().send(data)  # type: ignore[misc]  # as above

    def _release(self) -> None:
        held, self._held = self._held, None  # before it is sent: to connect may send something, too
        if held:
            super().send(held)  # type: ignore[misc]  # as above


class _Plain(_InOnePiece, HTTPConnection):
    pass


class _Encrypted(_InOnePiece, HTTPSConnection):
    pass


def in_one_piece(pool: urllib3.HTTPConnectionPool) -> urllib3.HTTPConnectionPool:
    """The pool, whose connections send small requests in one piece."""
    pool.ConnectionCls = _Encrypted if pool.scheme == "https" else _Plain
    return pool
