"""Keras 3, on any backend: a network that is compiled where it is made."""

import keras
from sklearn.datasets import load_digits

import umbel as fl


def make():
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)])
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return net


x, y = load_digits(return_X_y=True)
train, test = (lambda net, data: net.fit(*data, verbose=0)), (lambda net, data: net.evaluate(*data, verbose=0))
fed = fl.federate(make, train, test, data=[(x[n::10] / 16, y[n::10]) for n in range(10)])
history = fed.simulate(rounds=5)
