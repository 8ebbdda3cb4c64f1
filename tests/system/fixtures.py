"""Fixtures: federations whose processes are gone when the test ends, and the bits to compare with."""

from __future__ import annotations

import threading

import pytest
from federations import Federation, in_process

__all__ = ["federation", "federations", "reference"]


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
