"""Clients whose training has the same bits on every machine.

They use elementwise additions and multiplications of numbers that binary fractions hold exactly, and Python's own loops for
sums: no matrix product, no logarithm, no generator whose numbers depend on numpy's version.
"""

from __future__ import annotations

import json
import random

import ml_dtypes
import numpy as np

import umbel as fl
from umbel.common import ndarrays_to_parameters

BF16 = ml_dtypes.bfloat16


def numbers(shape, *address):
    """Eighths from −2 to 2, which follow from the address: float64 of this shape."""
    size = int(np.prod(shape, dtype=np.int64))
    start = sum((place + 1) * 31 * part for place, part in enumerate(address))
    return ((np.arange(size, dtype=np.int64) * 7 + start * 13 + start // 5) % 33 - 16).reshape(shape) / 8


def model(*tensors):
    """Initial arrays of these dtypes and shapes."""
    made = []
    for place, (dtype, shape) in enumerate(tensors):
        values = numbers(shape, place)
        made.append((values > 0) if dtype is np.bool_ else np.asarray(np.rint(values * 8) if _whole(dtype) else values))
        made[-1] = made[-1].astype(dtype)
    return made


def _whole(dtype):
    return np.dtype(dtype).kind in "iu"


MODELS = {
    "f32": model((np.float32, (6,)), (np.float32, (2, 3))),
    "integers": model((np.int64, (5,)), (np.int32, ())),
    "bf16": model((BF16, (6,)), (BF16, (3,))),
    "mixed": model(
        (np.float32, (4,)),
        (np.float64, (2, 2)),
        (np.float16, (3,)),
        (BF16, (3,)),
        (np.int32, (4,)),
        (np.int64, ()),
        (np.bool_, (4,)),
    ),
}


def parameters(kind):
    return ndarrays_to_parameters(MODELS[kind])


def trained(array, name, number):
    """Half of the array and a number of this client's and this round's; integers move by whole numbers, booleans turn."""
    step = numbers(array.shape, name, number)
    if array.dtype.kind == "b":
        return np.asarray(step > 0)
    if array.dtype.kind in "iu":
        return np.asarray(array + np.rint(step).astype(array.dtype)).astype(array.dtype)
    return np.asarray(array.astype(np.float64) * 0.5 + step).astype(array.dtype)


def size_of(array):
    """The mean of the absolute values, added up one after another."""
    values = [abs(float(value)) for value in np.asarray(array).ravel()[:8]]
    total = 0.0
    for value in values:  # not sum(), which Python has compensated since 3.12
        total += value
    return total / max(len(values), 1)


class Member(fl.client.NumPyClient):
    """What it answers follows from its name, the round, the parameters and how often it was asked before.

    `spoil(name, round, answer)` changes the answer (arrays, examples, metrics) of `fit`, or raises.
    """

    def __init__(self, context, spoil=None, kind="f32"):
        self.context, self.spoil, self.kind = context, spoil, kind
        self.name = int(context.node_id)

    def get_parameters(self, config):
        return MODELS[self.kind]

    def fit(self, parameters, config):
        number = int(config["round"])
        seen = self.context.state.get("seen", 0)
        arrays = [trained(array, self.name, number + seen) for array in parameters]
        if "proximal_mu" in config:
            arrays = [_nearer(new, old, config["proximal_mu"]) for new, old in zip(arrays, parameters, strict=True)]
        metrics = {"loss": size_of(parameters[0]), "seen": seen, "site": f"site {self.name % 2}"}
        answer = arrays, 1 + self.name % 4, metrics
        if self.spoil is not None:
            answer = self.spoil(self.name, number, answer)
        self.context.state["seen"] = seen + 1
        return answer

    def evaluate(self, parameters, config):
        return size_of(parameters[0]) + self.name / 8, 2 + self.name % 3, {"largest": float(max(parameters[0].ravel()))}


def _nearer(new, old, mu):
    if new.dtype.kind in "iub":
        return new
    return np.asarray(new + (old.astype(np.float64) - new) * mu).astype(new.dtype)


class Drawing(Member):
    """Draws from the generators that are seeded for it, whose numbers are frozen."""

    def fit(self, parameters, config):
        arrays, examples, metrics = super().fit(parameters, config)
        arrays[0] += np.rint(np.random.random_sample(arrays[0].shape) * 64) / 64
        return arrays, examples, {**metrics, "luck": round(random.random() * 2**20)}


class Booster(Member):
    """Grows a tree a round, as JSON that xgboost could have written."""

    def fit(self, parameters, config):
        number = int(config["round"])
        known = len(bytes(parameters[-1])) if parameters else 0
        return [booster(f"{self.name} in {number} after {known}")], 1 + self.name, {"known": known}

    def evaluate(self, parameters, config):
        return float(len(bytes(parameters[-1]))), 1, {}


class NetworkAndBooster(Booster):
    def fit(self, parameters, config):
        trees, examples, metrics = super().fit(parameters, config)
        return [trained(MODELS["f32"][0], self.name, int(config["round"])), *trees], examples, metrics


def booster(*names):
    model = {
        "gbtree_model_param": {"num_trees": str(len(names)), "num_parallel_tree": "1"},
        "iteration_indptr": list(range(len(names) + 1)),
        "tree_info": [0] * len(names),
        "trees": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    return json.dumps({"learner": {"gradient_booster": {"model": model, "name": "gbtree"}}}).encode()
