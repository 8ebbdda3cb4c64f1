"""A fit that goes on from the parameters that an estimator has, and knows all classes where the rows show only some."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from umbel.params import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator

__all__ = ["fit_on"]


def fit_on(model: BaseEstimator, x: NDArray | csr_matrix, y: object) -> None:
    """Fits a fitted estimator again, in place: from where it is, where it takes a warm start.

    A row of weight 0 stands for each class that the rows do not show.
    """
    labels = np.asarray(y)
    missing = np.setdiff1d(model.classes_, labels) if hasattr(model, "classes_") else labels[:0]
    if not missing.size:
        _fit(model, x, labels)
        return
    from scipy import sparse

    none = np.zeros((len(missing), x.shape[1]), x.dtype)
    stacked = sparse.vstack([x, sparse.csr_matrix(none)]) if sparse.issparse(x) else np.vstack([x, none])
    weights = np.concatenate([np.ones(len(labels)), np.zeros(len(missing))])
    _fit(model, stacked, np.concatenate([labels.astype(model.classes_.dtype), missing]), sample_weight=weights)


def _fit(model: BaseEstimator, x: object, y: NDArray, **weights: NDArray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    kept = getattr(model, "warm_start", None)
    if kept is not None:
        model.warm_start = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the rounds converge, not the clients
            model.fit(x, y, **weights)
    finally:
        if kept is not None:
            model.warm_start = kept
