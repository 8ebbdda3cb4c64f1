"""The file format of MNIST and of data sets made after it. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.errors import DataError

__all__ = ["read_idx"]


def read_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, as a view on `content`.

    The file is: two zeros, the type (8), the rank, the sizes (4 bytes each, big-endian), the values. Raises DataError
    where it is anything else.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    rank = content[3] if len(content) > 3 and content[:3] == b"\0\0\x08" else -1
    start = 4 + 4 * rank
    if rank < 0 or len(content) < start:
        raise DataError(
            f"{len(content)} bytes that begin with {content[:4]!r} are no IDX file of unsigned bytes: fetch it again."
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=rank, offset=4)]
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"An IDX file of shape {tuple(shape)} has {values.size} values: fetch it again.")
    return values.reshape(shape)
