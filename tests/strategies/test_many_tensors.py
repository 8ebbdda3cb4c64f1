"""A model of many small tensors: what is checked of it grows with their number, and not with its square."""

from __future__ import annotations

import time

import numpy as np
import pytest

from umbel.common import ndarrays_to_parameters
from umbel.errors import StrategyError
from umbel.strategies.returned import check_parameters


def read(arrays):
    """Seconds that it takes to read these as an owner's own parameters."""
    given = check_parameters("initialize_parameters", ndarrays_to_parameters(arrays))
    began = time.perf_counter()
    for _ in given.stream()[1]:
        pass
    return time.perf_counter() - began


def test_parameters_are_checked_in_time_that_grows_with_their_number():
    few, many = ([np.zeros(2, np.float32)] * number for number in (500, 4000))
    assert min(read(many) for _ in range(3)) < 24 * min(read(few) for _ in range(3))  # 8 times as many; the square is 64


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 5])
def test_every_array_is_looked_at_wherever_it_lies(position):
    kinds = ["float32", "int64", "float64", "float16", "float32", "float64"]  # data lie by size of item
    arrays = [np.zeros(3, kind) for kind in kinds] + [np.zeros(0, "float32")]
    if kinds[position] == "int64":
        read(arrays)
        return
    arrays[position][1] = np.inf
    with pytest.raises(StrategyError, match=rf"initialize_parameters\(\) returned inf in array {position}, shape \(3,\)"):
        read(arrays)
