"""What functools makes of the functions of a script or a cell travels to workers: each name here is found nowhere else."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys

import pytest

from umbel.runtime.transports.simulated.importable import dump_code

SCRIPT = '''
import functools, sys
import numpy as np
import umbel as fl


@functools.cache
def load(number):
    return np.random.default_rng(number).normal(size=(10, 3))


@functools.lru_cache(maxsize=7)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def shape(value):
    return "thing"


@shape.register
def _(value: list):
    return [shape(one) for one in value]


class Member(fl.client.NumPyClient):
    def __init__(self, number):
        self.number = number

    @functools.cached_property
    def x(self):
        return load(self.number)

    def fit(self, parameters, config):
        assert fibonacci(20) == 6765
        assert shape([1]) == ["thing"]
        assert self.x is load(self.number)
        return [parameters[0] + self.x.mean(0)], 10, {}

    def get_parameters(self, config):
        return [np.zeros(3)]


histories = [
    fl.simulation.start_simulation(
        client_fn=lambda context: Member(int(context.node_id)),
        num_clients=3,
        workers=2,
        backend=backend,
        strategy=fl.server.strategy.FedAvg(fraction_evaluate=0),
    )
    for backend in ("inline", "processes")
]
assert histories[0] == histories[1], histories
assert not histories[0].failures, histories[0].failures
'''


def again(value):
    return pickle.loads(dump_code(value))


def test_a_cached_function_is_made_again_with_its_settings_and_an_empty_cache():
    calls = []

    @functools.lru_cache(maxsize=3, typed=True)
    def square(number):
        calls.append(number)
        return number * number

    square(2)
    square.unit = "m²"
    made = again(square)
    assert (made.cache_parameters(), made.cache_info().currsize) == ({"maxsize": 3, "typed": True}, 0)
    assert [made(2), made(2), made.__name__, made.unit] == [4, 4, "square", "m²"]
    assert made.cache_info().hits == 1


def test_one_that_calls_itself_is_one_function_still():
    @functools.cache
    def count(n):
        return 0 if n == 0 else 1 + count(n - 1)

    made = again(count)
    assert made(50) == 50
    assert made.cache_info().currsize == 51


def test_properties_and_dispatch_of_a_local_class_travel():
    class Holder:
        @functools.cached_property
        def value(self):
            return object()

        @functools.singledispatchmethod
        def kind(self, value):
            return "any"

        @kind.register
        def _(self, value: int):
            return "integer"

    holder = again(Holder)()
    assert holder.value is holder.value
    assert (holder.kind(3), holder.kind("3")) == ("integer", "any")


def test_what_can_be_imported_travels_by_its_name():
    from umbel.door import _bounds  # a function with a cache

    assert again(_bounds) is _bounds


@pytest.mark.system
def test_a_script_s_own_wrappers_travel_to_worker_processes(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
