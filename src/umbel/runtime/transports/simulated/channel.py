"""Messages and open files between the processes of one simulation: pickles behind a length, over a socket pair.

Only processes that a simulation has started itself hold an end of it; nothing here ever listens.
"""

from __future__ import annotations

import array
import errno
import os
import pickle
import socket

__all__ = ["Channel", "Closed"]

_AT_ONCE = 1 << 18
_MAX_FILES = 200  # Linux allows 253 in one message


class Closed(Exception):
    """The other end is gone."""


class Channel:
    """One end. `send` waits until everything is handed over; `receive` until something is there."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._buffer = bytearray()
        self._files: list[int] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: object, files: list[int] | None = None) -> None:
        """Sends a message, and copies of open files with it. Raises `Closed`."""
        body = pickle.dumps((message, len(files or [])), 5)
        data = memoryview(len(body).to_bytes(8, "little") + body)
        rest = list(files or [])
        try:
            while rest:
                batch, rest = rest[:_MAX_FILES], rest[_MAX_FILES:]
                # every batch of files rides on a byte of the message
                end = 1 if rest else len(data)
                sent = self.socket.sendmsg(
                    [data[:end]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", batch))]
                )
                data = data[sent:]
            if data:
                self.socket.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from None

    def receive(self) -> tuple[object, list[int]]:
        """The next message with its files. Raises `Closed` where the other end is gone."""
        while True:
            message = self._next()
            if message is not None:
                return message
            self.read()

    def read(self) -> None:
        """Takes in what has come, waiting for at least a byte. Raises `Closed`, and `OSError` where this process may open
        no more files: those that came are lost.
        """
        try:
            room = socket.CMSG_SPACE(_MAX_FILES * array.array("i").itemsize)
            data, ancillary, flags, _ = self.socket.recvmsg(_AT_ONCE, room)
        except OSError as error:
            raise Closed(str(error)) from None
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files = array.array("i")
                files.frombytes(body[: len(body) - len(body) % files.itemsize])
                self._files += files
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not data:
            raise Closed("the other end is closed")
        self._buffer += data

    def messages(self) -> list[tuple[object, list[int]]]:
        """The messages that are there without waiting."""
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def close(self) -> None:
        self.socket.close()

    def _next(self) -> tuple[object, list[int]] | None:
        if len(self._buffer) < 8:
            return None
        end = 8 + int.from_bytes(self._buffer[:8], "little")
        if len(self._buffer) < end:
            return None
        message, count = pickle.loads(memoryview(self._buffer)[8:end])
        del self._buffer[:end]
        files, self._files = self._files[:count], self._files[count:]
        return message, files
