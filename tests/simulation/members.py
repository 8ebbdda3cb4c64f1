"""Clients whose results show every source of difference: draws, order, states, failures. For tests and their programs."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import numpy as np

import umbel as fl
from umbel.common import ndarrays_to_parameters

SHAPES = {"weights": (20, 5), "bias": (5,)}


def initial():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]
    return [*arrays, np.array([7], "int64"), rng.normal(size=(3,))]


def wait_for_two(folder, name):
    """Waits, in a client, until two of different names have come this far: no worker does everybody's work."""
    (folder / name).touch()
    until = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        threading.Event().wait(0.01)


class Member(fl.client.NumPyClient):
    """Trains on data of its own, draws from every generator there is, counts in its state, and fails now and then."""

    def __init__(self, context, *, fails=True):
        self.context = context
        self.name = context.node_id
        self.fails = fails
        self.data = np.random.default_rng(int(self.name)).normal(size=(30, 20)).astype("float32")

    def get_parameters(self, config):
        return initial()

    def fit(self, parameters, config):
        if self.fails and self.name.endswith("3"):
            raise ValueError(f"no data at {self.name}")
        weights, bias, count, drift = parameters
        seen = self.context.state.get("seen", 0)
        mean = self.context.state.get("mean", np.zeros(5, "float32"))
        target = np.tanh(self.data @ np.full((20, 5), 0.1, "float32"))
        for _ in range(3):
            error = self.data @ weights + bias - target
            weights -= 0.05 * self.data.T @ error / len(self.data)
            bias -= np.float32(0.01 * random.random()) * error.mean(axis=0)
        drift += self.context.rng().normal(size=3) + np.random.normal(size=3)
        self.context.state["seen"] = seen + 1
        self.context.state["mean"] = mean + error.mean(axis=0)
        count += seen
        metrics = {"seen": seen, "error": float(np.square(error).mean())}
        return [weights, bias, count, drift], 10 + int(self.name) % 7, metrics

    def evaluate(self, parameters, config):
        loss = np.square(self.data @ parameters[0]).mean() + np.random.random()
        return float(loss), 30, {"bias": float(parameters[1].sum())}


class Hanging(Member):
    """Client 1 never answers."""

    def fit(self, parameters, config):
        if self.name == "1":
            threading.Event().wait(1000)
        return super().fit(parameters, config)


def client_fn(context):
    return Member(context)


def hangs(context):
    return Hanging(context, fails=False)


def client_that_never_fails(context):
    return Member(context, fails=False)


def digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def fedavg(cls=fl.server.strategy.FedAvg, **options):
    """A strategy whose History has a digest of every version of the model."""
    return cls(
        **{
            "initial_parameters": ndarrays_to_parameters(initial()),
            "evaluate_fn": lambda number, arrays, _: (float(number), {"digest": digest(arrays), "luck": np.random.random()}),
            "fraction_fit": 0.8,
            "fraction_evaluate": 0.3,
            **options,
        }
    )
