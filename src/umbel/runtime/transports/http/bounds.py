"""How many values a MessagePack message has, counted before any of them is made. Knows bytes; knows no messages.

A value costs a byte on its way and a hundred in memory, and time: 16 MiB of them hold an event loop for seconds. Texts
and bytes cost what they are long, and are one value however long they are.
"""

from __future__ import annotations

from umbel.errors import WireError

__all__ = ["MAX_VALUES", "check_values", "count_values"]

MAX_VALUES = 10_000  # of one message: thousands of metrics, and a dozen fields beside them
MAX_FIELDS = 32  # of a message itself

# After the first byte: how many bytes follow, by that byte. Lengths, of texts and such, are read.
_FOLLOW = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FOLLOW |= {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_LENGTH = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_LENGTH |= {0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_MANY = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def check_values(data: bytes | bytearray | memoryview, *, apart: bytes = b"", most: int = MAX_VALUES) -> None:
    """Raises `WireError` where a message has more than `most` values, without those from its field `apart` on.

    What is no MessagePack is left to whoever decodes it.

    >>> check_values(b"\\x81\\xa4have\\xdd\\x00\\x01\\x00\\x00" + bytes(2**16))
    Traceback (most recent call last):
    umbel.errors.WireError: the message has more than 10,000 values
    """
    fields, at = _head(data, 0)
    if fields > 2 * MAX_FIELDS:
        raise WireError(f"the message has more than {MAX_FIELDS} fields")
    left = most
    for number in range(fields):
        if number % 2 == 0 and apart and data[at : at + 1 + len(apart)] == bytes([0xA0 | len(apart)]) + apart:
            return
        seen, at = count_values(data, at, left)
        left -= seen
        if left < 0:
            raise WireError(f"the message has more than {most:,} values")


def count_values(data: bytes | bytearray | memoryview, at: int, most: int) -> tuple[int, int]:
    """The number of values in the value at `at`, itself among them, and where it ends; `most` + 1 as soon as it has more."""
    pending, seen, end = 1, 0, len(data)
    while pending and at < end:
        inside, at = _head(data, at)
        pending += inside - 1
        seen += 1
        if seen + pending > most:
            return most + 1, at
    return seen, at


def _head(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """How many values are inside the value at `at`, and where the first of them, or what follows the value, begins."""
    if at >= len(data):
        return 0, at
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:
        return 0, at
    if first < 0x90:
        return 2 * (first & 15), at
    if first < 0xA0:
        return first & 15, at
    if first < 0xC0:
        return 0, at + (first & 31)
    if first in _LENGTH:
        size, more = _LENGTH[first]
        return 0, at + size + more + int.from_bytes(data[at : at + size], "big")
    if first in _MANY:
        size, each = _MANY[first]
        return each * int.from_bytes(data[at : at + size], "big"), at + size
    return 0, at + _FOLLOW.get(first, 0)
