"""Keras 3, on the backend that KERAS_BACKEND names: a compiled CNN with BatchNormalization and Dropout."""

import keras
from keras import layers

import umbel as fl
from digits import arrays
from umbel.frameworks import keras as umbel_keras


def make_model():
    convolution = [keras.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization()]
    model = keras.Sequential([*convolution, layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model, data):
    return model.fit(*data, epochs=2, verbose=0)


def test(model, data):
    return model.evaluate(*data, verbose=0)


client = umbel_keras.client(make_model, train, test, data=arrays)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
