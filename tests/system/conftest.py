"""Each test gets a federation of its own; what it started is gone when it ends."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from federations import Federation, in_process


@pytest.fixture
def federations(tmp_path):
    """`federations(name, host=)`: a new federation in a folder of its own."""
    begun = []

    def begin(name="only", **options):
        begun.append(Federation(tmp_path / name, **options))
        return begun[-1]

    yield begin
    for federation in begun:
        federation.end()
        print(f"\n======== {federation.folder.name}\n{federation.words()}")  # pytest shows it where the test failed


@pytest.fixture
def federation(federations):
    return federations()


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """`reference(names, rounds=, size=)`: the bytes of the final model of a run without network and without faults."""
    known, lock = {}, threading.Lock()

    def bits(names="ab", **options):
        key = (tuple(names), *sorted(options.items()))
        with lock:
            if key not in known:
                known[key] = in_process(tmp_path_factory.mktemp("reference"), list(names), **options)
            return known[key]

    return bits
