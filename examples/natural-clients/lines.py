"""Which character comes next? A small network on Shakespeare, one client for each of the six longest roles.

The network is that of Bengio et al. (2003): the last eight characters, each as sixteen numbers, a hidden layer, and a
softmax over all characters.
"""

import numpy as np

from umbel.datasets import FederatedDataset, NaturalIdPartitioner

CLIENTS, ROUNDS = 6, 15
CHARACTERS, CONTEXT, EMBEDDING, HIDDEN = 128, 8, 16, 64


def six_longest(splits):
    roles = splits["train"]["role"]
    names, counts = np.unique(roles, return_counts=True)
    longest = names[np.argsort(-counts, kind="stable")[:CLIENTS]]
    return {"train": splits["train"].select(np.flatnonzero(np.isin(roles, longest)))}


def divided() -> FederatedDataset:
    by_role = NaturalIdPartitioner(partition_by="role")
    return FederatedDataset(dataset="shakespeare", preprocessor=six_longest, partitioners={"train": by_role})


def picture() -> tuple[FederatedDataset, str, str]:
    """What to draw of the parts: a data set, the column to count, and what its values are. Here each letter is a row."""
    rows = divided().load_split("train")
    letters = np.char.lower(rows["y"].view("S1").astype(str).ravel())
    role = np.repeat(rows["role"], rows["y"].shape[1])
    here = np.char.isalpha(letters)
    by_role = NaturalIdPartitioner(partition_by="role")
    by_letter = FederatedDataset(dataset={"letter": letters[here], "role": role[here]}, partitioners={"train": by_role})
    return by_letter, "letter", "letter"


def arrays(part) -> tuple[np.ndarray, np.ndarray]:
    """Every eight characters of every piece, and the character that follows them."""
    x = np.lib.stride_tricks.sliding_window_view(part["x"], CONTEXT, axis=1).reshape(-1, CONTEXT)
    return x, part["y"][:, CONTEXT - 1 :].ravel()


def initial() -> list[np.ndarray]:
    shapes = [(CHARACTERS, EMBEDDING), (CONTEXT * EMBEDDING, HIDDEN), (HIDDEN,), (HIDDEN, CHARACTERS), (CHARACTERS,)]
    random = np.random.default_rng(0)
    scales = [0.5, (CONTEXT * EMBEDDING) ** -0.5, 0, HIDDEN**-0.5, 0]
    return [random.normal(0, scale, shape).astype(np.float32) for shape, scale in zip(shapes, scales, strict=True)]


def train(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """One pass in batches of 32."""
    embedding, inner, inner_bias, outer, outer_bias = (array.copy() for array in parameters)
    order = np.random.permutation(len(y))
    for start in range(0, len(y), 32):
        rows = order[start : start + 32]
        given, wanted = x[rows], y[rows]
        embedded, hidden, logits = _forward([embedding, inner, inner_bias, outer, outer_bias], given)
        error = _softmax(logits)
        error[np.arange(len(rows)), wanted] -= 1
        error *= 0.2 / len(rows)  # the learning rate
        back = error @ outer.T * (1 - hidden**2)
        by_character = (back @ inner.T).reshape(len(rows), CONTEXT, EMBEDDING)
        outer -= hidden.T @ error
        outer_bias -= error.sum(axis=0)
        inner -= embedded.T @ back
        inner_bias -= back.sum(axis=0)
        np.subtract.at(embedding, given, by_character)
    return [embedding, inner, inner_bias, outer, outer_bias]


def evaluate(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy, and the share of characters that are guessed right."""
    logits = _forward(parameters, x)[2]
    chances = _softmax(logits)[np.arange(len(y)), y]
    return float(-np.mean(np.log(np.maximum(chances, 1e-12)))), float(np.mean(logits.argmax(axis=1) == y))


def _forward(parameters, x):
    embedding, inner, inner_bias, outer, outer_bias = parameters
    embedded = embedding[x].reshape(len(x), -1)
    hidden = np.tanh(embedded @ inner + inner_bias)
    return embedded, hidden, hidden @ outer + outer_bias


def _softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
