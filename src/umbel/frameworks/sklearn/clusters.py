"""K-means: each cluster's rows, added up and divided by the number of all rows, beside the centers that they were given.

Every client starts from the same centers, so cluster i of one is cluster i of all others. FedAvg's mean of the sums is
what all rows together give, and a center is its sum divided by its part: one round is one of Lloyd's iterations on all rows
in one place (Lloyd 1982, "Least squares quantization in PCM"), up to rounding. A cluster that no client has a row of stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from umbel.frameworks.sklearn.facts import Facts
from umbel.params import NDArray

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["begin", "facts_of", "prepare", "read", "train", "write"]

CENTERS, PARTS, SUMS = "cluster_centers_", "cluster_parts", "cluster_sums"


def prepare(model: BaseEstimator, facts: Facts, x: object) -> None:
    """Chooses first centers among the rows, in place; without rows all centers are 0, and stay so until others come."""
    from sklearn.cluster import kmeans_plusplus

    count = model.n_clusters
    if x is None:
        centers = np.zeros((count, facts.features), facts.dtype)
    elif not isinstance(model.init, str):
        centers = np.array(model.init, facts.dtype)
    else:
        centers, _ = kmeans_plusplus(x, count, random_state=model.random_state)
    made = _allocated(model, centers)
    vars(model).update({name: value for name, value in vars(made).items() if name not in model.get_params()})
    write(model, {CENTERS: centers, PARTS: np.zeros(count), SUMS: np.zeros_like(centers)})


def _allocated(model: BaseEstimator, centers: NDArray) -> BaseEstimator:
    """A fitted estimator with these centers: what it keeps besides them is made by scikit-learn."""
    from sklearn.base import clone

    made = clone(model).set_params(init=centers, n_init=1, max_iter=1, verbose=0)
    return made.fit(centers + np.arange(len(centers))[:, np.newaxis])  # rows that differ, since it warns of others


def facts_of(arrays: Mapping[str, NDArray]) -> Facts:
    """What the parameters of such a model show."""
    return Facts(arrays[CENTERS].shape[1], dtype=arrays[CENTERS].dtype)


def read(model: BaseEstimator) -> dict[str, NDArray]:
    """The centers that the model was given, and what its rows have added to each."""
    given = getattr(model, "_umbel_centers", None)
    counts, centers = _counts(model), np.asarray(model.cluster_centers_, np.float64)
    rows = counts.sum() or 1.0
    sums = getattr(model, "_umbel_sums", None)
    sums = counts[:, np.newaxis] * centers if sums is None else sums
    return {
        CENTERS: np.array(model.cluster_centers_ if given is None else given),
        PARTS: counts / rows,
        SUMS: sums / rows,
    }


def _counts(model: BaseEstimator) -> NDArray:
    """How many rows each cluster has had since `begin`."""
    if hasattr(model, "_counts"):  # MiniBatchKMeans
        return np.array(model._counts, np.float64)
    labels = getattr(model, "labels_", None)
    return np.bincount(labels if labels is not None else [], minlength=model.n_clusters).astype(np.float64)


def write(model: BaseEstimator, arrays: Mapping[str, NDArray]) -> None:
    """Puts the centers where their rows are, in place; those without a row stay where they were."""
    parts, before = arrays[PARTS], arrays[CENTERS]
    seen = (parts > 0)[:, np.newaxis]
    centers = np.where(seen, arrays[SUMS] / np.where(seen, parts[:, np.newaxis], 1.0), before)
    model.cluster_centers_ = np.ascontiguousarray(centers, before.dtype)
    begin(model)


def begin(model: BaseEstimator) -> None:
    """Forgets which rows the model has had: the next ones start from the present centers."""
    model._umbel_centers = model.cluster_centers_.copy()
    model._umbel_sums = None
    for name in ("labels_", "inertia_", "_random_state"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model, "_counts"):
        from sklearn.utils import check_random_state

        model._counts, model._n_since_last_reassign = np.zeros_like(model._counts), 0
        model._random_state = check_random_state(model.random_state)


def train(model: BaseEstimator, x: object, y: object) -> None:
    """One of Lloyd's iterations: each row goes to its nearest center."""
    from scipy import sparse

    if hasattr(model, "partial_fit"):
        model.partial_fit(x)
        return
    rows: sparse.csr_matrix = x if sparse.issparse(x) else np.asarray(x, model.cluster_centers_.dtype)
    model.labels_ = model.predict(rows)
    count = rows.shape[0]
    sums = sparse.csr_matrix((np.ones(count), (model.labels_, np.arange(count))), (model.n_clusters, count)) @ rows
    model._umbel_sums = np.asarray(sums.todense() if sparse.issparse(sums) else sums, np.float64)
