"""MXNet's arrays as a client returns them."""

from __future__ import annotations

import pytest

from umbel.errors import WireError
from umbel.frameworks.mxnet import mx
from umbel.params import as_arrays


def test_its_arrays_and_parameters_come_as_they_are():
    net = mx.gluon.nn.Dense(2, in_units=3)
    net.initialize()
    given = {"nd": mx.nd.ones((2,), dtype="float16"), "np": mx.np.ones((2, 1)), "weight": net.weight}
    arrays = as_arrays(given)
    assert arrays.names == ("nd", "np", "weight")
    assert [(array.dtype.name, array.shape) for array in arrays] == [
        ("float16", (2,)), ("float32", (2, 1)), ("float32", (2, 3)),
    ]  # fmt: skip


def test_sparse_ones_are_refused_with_the_remedy():
    with pytest.raises(WireError, match=r"array 'w' is stored as csr; give array.tostype\('default'\)"):
        as_arrays({"w": mx.nd.ones((2, 2)).tostype("csr")})
