"""A tensor header that a client offers, read without holding up the event loop. Knows headers; knows no tasks, no files."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from umbel.errors import WireError
from umbel.wire import Schema, encode_header, parse_header, short

__all__ = ["Headers"]

AT_ONCE = 2**13  # bytes that are read in less than a few milliseconds
LONGEST = 2**22  # bytes of a header that is not the model's
MOST = 8_000  # tensors in it, which take 20 ms,
MOST_OF_ALL = 50_000  # and where anything may come: the first parameters, or a strategy that combines by itself


class _Tensor(msgspec.Struct):
    """What an entry must at least look like. `dtype` is missing in what is said beside tensors."""

    shape: Annotated[list[int], msgspec.Meta(max_length=64)] = []
    data_offsets: Annotated[list[int], msgspec.Meta(max_length=8)] = []


# Finds lists and maps where no tensor has any, at a gigabyte a second and without making one of them.
_likely = msgspec.json.Decoder(dict[str, _Tensor])


class Headers:
    """Reads headers, one of the long ones at a time."""

    def __init__(self) -> None:
        self._known: tuple[Schema, bytes] | None = None
        self._reading = asyncio.Lock()

    async def read(self, header: bytes, model: Schema | None) -> Schema:
        """The header's schema: `model` itself where it is the model's. Raises `WireError`."""
        if not header:
            return Schema(())
        if model is not None and header == self._encode(model):
            return model
        if len(header) <= AT_ONCE:
            return parse_header(header)
        if len(header) > LONGEST:
            raise WireError(f"a header of {len(header):,} bytes, which is not the model's; at most {LONGEST:,} are read")
        most = MOST_OF_ALL if model is None else MOST
        if header.count(b"[") + header.count(b"{") > 3 * most + 2:  # each tensor has three of them
            raise WireError(f"the header is not JSON of {most:,} tensors at most, and not the model's own")
        if int.from_bytes(header[:8], "little") != len(header) - 8:
            return parse_header(header)  # says so
        try:
            _likely.decode(memoryview(header)[8:])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"the header is not JSON of tensors: {short(str(error))}") from None
        async with self._reading:
            return await asyncio.to_thread(parse_header, header)

    def _encode(self, model: Schema) -> bytes:
        if self._known is None or self._known[0] is not model:
            self._known = model, encode_header(model)
        return self._known[1]
