"""What the comparison with flwr gives to both: a model, four rounds of updates from fifteen clients, and the keywords.

The strategies that boost have four clients, and boosters of two trees.
"""

from __future__ import annotations

import json

import numpy as np

CLIENTS, ROUNDS = 15, 4
SHAPES = [(3, 4), (5,)]


def initial():
    draw = np.random.RandomState(0)
    return [draw.standard_normal(shape).astype("float32") for shape in SHAPES]


def updates(number, *, equal=False):
    """`(arrays, num_examples)` of each client in a round: they drift, and two of them are far off."""
    draw = np.random.RandomState(number)
    drift = [0.3 * number + array for array in initial()]
    answers = []
    for client in range(CLIENTS):
        spread = 20.0 if client in (2, 7) else 0.2
        arrays = [(array + spread * draw.standard_normal(array.shape)).astype("float32") for array in drift]
        answers.append((arrays, 10 if equal else int(draw.randint(1, 100))))
    return answers


def loss(number):
    """The server's own evaluation before round `number`."""
    return 2.0 / number


def grown(number):
    """Each client's booster in a round, as xgboost writes it: one iteration of a forest of two trees."""
    boosters = []
    for client in range(4):
        trees = [{"id": tree, "base_weights": [number, client, tree]} for tree in range(2)]
        model = {
            "gbtree_model_param": {"num_trees": "2", "num_parallel_tree": "2"},
            "iteration_indptr": [0, 2],
            "tree_info": [0, 0],
            "trees": trees,
        }
        boosters.append(json.dumps({"learner": {"gradient_booster": {"model": model, "name": "gbtree"}}}).encode())
    return boosters


BOOSTING = ["FedXgbBagging", "FedXgbCyclic"]

# Class and keywords; `equal` gives all clients the same number of examples.
CASES = {
    "FedAvg": ("FedAvg", {}, False),
    "FedAvgM": ("FedAvgM", {"server_learning_rate": 0.7, "server_momentum": 0.9}, False),
    "FedAvgM without momentum": ("FedAvgM", {"server_learning_rate": 0.5}, False),
    "FedAdagrad": ("FedAdagrad", {}, False),
    "FedAdagrad by eta": ("FedAdagrad", {"eta": 0.03, "tau": 1e-3}, False),
    "FedAdam": ("FedAdam", {}, False),
    "FedAdam by betas": ("FedAdam", {"eta": 0.01, "beta_1": 0.5, "beta_2": 0.9, "tau": 1e-3}, False),
    "FedYogi": ("FedYogi", {}, False),
    "FedYogi by betas": ("FedYogi", {"eta": 0.1, "beta_1": 0.5, "beta_2": 0.9, "tau": 1e-2}, False),
    "FedProx": ("FedProx", {"proximal_mu": 0.1}, False),
    "QFedAvg": ("QFedAvg", {}, False),
    "QFedAvg by q": ("QFedAvg", {"q_param": 1.5, "qffl_learning_rate": 0.01}, False),
    "FaultTolerantFedAvg": ("FaultTolerantFedAvg", {}, False),
    "FedMedian": ("FedMedian", {}, False),
    "FedTrimmedAvg": ("FedTrimmedAvg", {}, False),
    "FedTrimmedAvg by beta": ("FedTrimmedAvg", {"beta": 0.3}, False),
    "Krum": ("Krum", {"num_malicious_clients": 2}, False),
    "Krum that keeps four": ("Krum", {"num_malicious_clients": 2, "num_clients_to_keep": 4}, True),
    "Bulyan": ("Bulyan", {"num_malicious_clients": 3, "to_keep": 0}, False),
}
