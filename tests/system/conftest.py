"""Each test gets a federation of its own; what it started is gone when it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from federations import Federation, in_process


@pytest.fixture
def federation(tmp_path):
    federation = Federation(tmp_path)
    yield federation
    federation.end()
    print(federation.words())  # pytest shows it where the test failed


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """`reference(names, rounds=, size=)`: the bytes of the final model of a run without network and without faults."""
    known = {}

    def bits(names=("a", "b", "c"), **options):
        key = (tuple(names), *sorted(options.items()))
        if key not in known:
            known[key] = in_process(tmp_path_factory.mktemp("reference"), list(names), **options)
        return known[key]

    return bits
