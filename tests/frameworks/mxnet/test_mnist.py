"""MNIST for MXNet out of the local cache. The real data where it is; its absence where it is not."""

import numpy as np
import pytest

from umbel.datasets.mnist_files import FULL
from umbel.errors import DataError
from umbel.frameworks.mxnet import get_mnist, mx


@pytest.mark.skipif(not FULL.files.present(), reason="MNIST is not in the local cache: run scripts/fetch-data")
def test_mnist_is_what_mxnet_used_to_download():
    mnist = get_mnist()
    assert {name: (array.shape, array.dtype.name) for name, array in mnist.items()} == {
        "train_data": ((60000, 1, 28, 28), "float32"),
        "train_label": ((60000,), "int8"),
        "test_data": ((10000, 1, 28, 28), "float32"),
        "test_label": ((10000,), "int8"),
    }
    assert (mnist["train_data"].min(), mnist["train_data"].max()) == (0.0, 1.0)
    assert mnist["train_label"][:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(mnist["test_label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    batch = next(mx.io.NDArrayIter(mnist["train_data"], mnist["train_label"], 100))
    assert (batch.data[0].shape, batch.label[0].shape) == ((100, 1, 28, 28), (100,))


def test_without_data_the_error_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setenv("UMBEL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte cannot be read.* Run scripts/fetch-data"):
        get_mnist()
