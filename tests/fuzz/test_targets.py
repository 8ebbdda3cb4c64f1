"""The targets of `make fuzz`, for a second each and by hypothesis: whoever has no atheris runs these."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from targets import TARGETS

EXAMPLES = int(os.environ.get("UMBEL_FUZZ_EXAMPLES", "150"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name):
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@st.composite
def almost(draw, seeds):
    """A valid input with bytes flipped, lost, doubled or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["change", "lose", "double", "insert"])):
            case "change":
                data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "lose":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name):
    target = TARGETS[name]

    @settings(deadline=None, max_examples=EXAMPLES, database=None)
    @given(st.binary(max_size=200) | almost(target.seeds))
    def read(data):
        target.run(data)

    read()


def test_a_target_that_lets_an_error_out_is_noticed():
    def broken(data):
        if len(data) > 3 and data[0] == data[1]:
            raise IndexError("found")

    @settings(deadline=None, max_examples=300, database=None)
    @given(almost([b"ab" * 20]))
    def read(data):
        broken(data)

    with pytest.raises(IndexError, match="found"):
        read()
