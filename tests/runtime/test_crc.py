"""What follows is summed without its bytes: the same crc32 as of the bytes themselves."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from umbel.rng import stream
from umbel.runtime.crc import join_crc32


@pytest.mark.parametrize("size", [0, 1, 7, 8, 255, 4096, 65_537, 3_000_001])
@pytest.mark.parametrize("before", [0, 1, 72])
def test_two_parts_have_the_crc32_of_the_whole(size, before):
    data = stream(7, "bytes", size, before).integers(256, size=before + size, dtype=np.uint8).tobytes()
    assert join_crc32(crc32(data[:before]), crc32(data[before:]), size) == crc32(data)


def test_a_size_that_no_memory_holds():
    """As zlib's own function has it for 2^40 zeros: the crc32 of a zero repeats after 2^32 - 1 bits."""
    eight = crc32(bytes(8))
    for _ in range(37):  # 8 zeros, doubled to 2^40 of them
        eight = join_crc32(eight, eight, 8 << _)
    zeros = crc32(b"")
    for power in range(41):
        zeros = crc32(bytes(1)) if power == 0 else join_crc32(zeros, zeros, 1 << (power - 1))
    assert eight == zeros
