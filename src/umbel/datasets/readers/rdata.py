"""A data frame of numbers and factors, out of R's format for saved objects (XDR, version 2).

Reads what one known file holds and refuses all else; R Internals, section 1.8, has the whole format. A library for it
(rdata, pyreadr) brings pandas, and here one file of 90 kB needs sixty lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import DataError

__all__ = ["read_frame"]

_PAIRS, _NULL = 2, 254  # types of objects


def read_frame(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The columns of the one data frame in `content`; factors as their numbers, from 1 up. Raises DataError."""
    if not content.startswith(b"RDX2\nX\n"):
        raise DataError(f"{len(content)} bytes that begin with {content[:7]!r} are not a file saved by R: fetch it again.")
    try:
        ((_, (columns, attributes)),) = _Reader(content, 7 + 12).pairs().items()
        return {str(name): np.asarray(column) for name, (column, _) in zip(attributes["names"][0], columns, strict=True)}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The file saved by R cannot be read: {error!r}. Fetch it again.") from error


class _Reader:
    """Goes through the bytes once. A value is (content, attributes)."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content = content
        self._at = at
        self._symbols: list[str] = []

    def pairs(self) -> dict[str, Any]:
        """A list of tagged values, flags first."""
        found: dict[str, Any] = {}
        while (flags := self._int()) & 255 == _PAIRS:
            if flags & 0x200:
                raise ValueError("attributes of a list")
            tag = self._value()[0]
            found[tag] = self._value()
        if flags & 255 != _NULL:
            raise ValueError(f"a list that ends in {flags & 255}")
        return found

    def _value(self) -> tuple[Any, dict[str, Any]]:
        flags = self._int()
        content: Any
        match flags & 255:
            case 1:  # a symbol
                content = self._value()[0]
                self._symbols.append(content)
                return content, {}
            case 255:  # a symbol seen before
                return self._symbols[(flags >> 8) - 1], {}
            case 254:
                return None, {}
            case 9:  # characters
                length = self._int()
                content = self._take(length).decode("latin-1")
            case 13:
                content = self._numbers(">i4", 4)
            case 14:
                content = self._numbers(">f8", 8)
            case 16 | 19:  # texts, or values of any kind
                values = [self._value() for _ in range(self._int())]
                content = [text for text, _ in values] if flags & 255 == 16 else values
            case other:
                raise ValueError(f"an object of type {other}")
        return content, self.pairs() if flags & 0x200 and flags & 255 != 9 else {}

    def _int(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def _take(self, size: int) -> bytes:
        taken = self._content[self._at : self._at + size]
        if size < 0 or len(taken) != size:
            raise ValueError("it ends too early")
        self._at += size
        return taken

    def _numbers(self, dtype: str, size: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._take(self._int() * size), dtype)
