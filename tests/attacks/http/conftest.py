"""The federations of the system tests, for clients that mean harm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "system"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from by_hand import Stranger, address
from fixtures import federation, federations, reference  # noqa: F401


@pytest.fixture
def strange():
    """`strange(port, name)`: a stranger, whose connections are closed when the test ends."""
    known = []

    def meet(port, name):
        known.append(Stranger(port, name, address(len(known) + 1)))
        return known[-1]

    yield meet
    for stranger in known:
        stranger.close()
