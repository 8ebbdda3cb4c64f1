"""Who will see a doctor this year? Logistic regression on the RAND Health Insurance Experiment, one client per site."""

import numpy as np

from umbel.datasets import FederatedDataset, NaturalIdPartitioner

CLIENTS, ROUNDS = 6, 15

# Sizes of the fourteen columns, known beforehand. Means and variances of the data would have to be shared to be used.
SCALE = np.array([5, 1, 7, 8, 1, 15, 1, 1, 1, 9, 1.5, 40, 1, 1])


def divided() -> FederatedDataset:
    return FederatedDataset(dataset="randhie", partitioners={"train": NaturalIdPartitioner(partition_by="site")})


def picture() -> tuple[FederatedDataset, str, str]:
    """What to draw of the parts: a data set, the column to count, and what its values are."""
    return divided(), "y", "0: saw no doctor in the year, 1: saw one"


def arrays(part) -> tuple[np.ndarray, np.ndarray]:
    x = part["x"] / SCALE
    return np.column_stack([x, np.ones(len(x))]), part["y"]


def initial() -> list[np.ndarray]:
    return [np.zeros(15)]


def train(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Five steps of gradient descent on all rows."""
    (weights,) = parameters
    for _ in range(5):
        chance = 1 / (1 + np.exp(-x @ weights))
        weights = weights - 1.0 * x.T @ (chance - y) / len(y)
    return [weights]


def evaluate(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy, and the share of rows that are guessed right."""
    logits = x @ parameters[0]
    return float(np.mean(np.logaddexp(0, logits) - y * logits)), float(np.mean((logits > 0) == y))
