"""Keras' models: names that do not count the process's layers, statistics, and what a client never sees of another."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
umbel_keras = pytest.importorskip("umbel.frameworks.keras")

from umbel.context import Context  # noqa: E402
from umbel.frameworks.errors import ParametersNotReady  # noqa: E402
from umbel.runtime.seeding import seed_generators  # noqa: E402

pytestmark = pytest.mark.frameworks
X, Y = np.ones((8, 3), "float32"), np.arange(8) % 2


def model():
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    made = keras.Sequential([*layers, keras.layers.Dense(2)])
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def test_names_are_the_same_for_every_model_of_one_form():
    names = [*umbel_keras.parameters_of(model())]
    assert names == [*umbel_keras.parameters_of(model())]
    assert names[:3] == ["dense/kernel", "dense/bias", "batch_normalization/gamma"]
    assert names[-2:] == ["dense_1/kernel", "dense_1/bias"]


def test_frozen_layers_are_weights_and_moving_averages_are_none():
    made = model()
    made.layers[0].trainable = False
    assert umbel_keras.statistics_of(made) == ["batch_normalization/moving_mean", "batch_normalization/moving_variance"]


def test_dtypes_come_back_to_the_bit():
    for dtype in ("bfloat16", "float16"):
        made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype=dtype)])
        arrays = umbel_keras.parameters_of(made)
        assert {array.dtype.name for array in arrays.values()} == {dtype}
        again = umbel_keras.parameters_of(umbel_keras.load(made, {name: array * 2 for name, array in arrays.items()}))
        assert all((again[name] == arrays[name] * 2).all() for name in arrays)


def test_a_task_repeats_whatever_was_trained_before_it_and_the_train_function_is_made_once():
    functions = set()

    def train(made, data):
        history = made.fit(X, Y, batch_size=4, verbose=0)
        functions.add(id(made.train_function))
        return history

    client = umbel_keras.client(model, train, data=X)
    first = [*umbel_keras.parameters_of(model()).values()]

    def task(name):
        seed_generators(0, "client", name, 1)
        arrays, _, metrics = client(Context(name, {"partition-id": int(name)}, seed=0, round=1)).fit(first, {})
        return [array.tobytes() for array in arrays.values()], metrics

    alone = task("0")
    other = task("1")
    assert task("0") == alone
    assert other != alone
    assert "loss" in alone[1]
    assert len(functions) == 1


def test_a_model_that_train_compiles_is_compiled_anew_in_each_task():
    found = []

    def bare():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    def train(made, data):
        found.append((made.compiled, getattr(made, "optimizer", None)))
        made.compile("adam", "mse")
        made.fit(X, np.zeros((8, 2)), verbose=0)

    client = umbel_keras.client(bare, train, data=X)
    first = [*umbel_keras.parameters_of(bare()).values()]
    for name in "01":
        client(Context(name, {"partition-id": int(name)}, seed=0, round=1)).fit(first, {})
    assert found == [(False, None)] * 2


def test_what_evaluate_returns_is_named_by_the_model():
    client = umbel_keras.client(model, print, lambda made, data: made.evaluate(X, Y, verbose=0), data=X)
    loss, count, metrics = client.evaluate([*umbel_keras.parameters_of(model()).values()], {})
    assert loss > 0
    assert (count, metrics) == (8, {})


def test_a_backend_that_is_not_here_is_said_with_the_remedy():
    if find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is here")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    program = [sys.executable, "-c", "import umbel.frameworks.keras"]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert "FrameworkMissing: Keras is to run on tensorflow, which is not installed: set KERAS_BACKEND to" in ran.stderr


def test_a_model_without_weights_is_refused_with_the_remedy():
    with pytest.raises(ParametersNotReady, match=r"has no weights yet; begin it with keras.Input\(shape\)"):
        umbel_keras.client(keras.Sequential([keras.layers.Dense(2)]), print, data=X)
