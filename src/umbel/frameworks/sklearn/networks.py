"""scikit-learn's perceptrons of several layers: weights are averaged, and optimizers begin anew in each round.

A client makes one pass over its rows in each round, with `partial_fit`; with the solver "lbfgs", which has none, it is
fitted from the present weights, up to `max_iter` iterations.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from umbel.frameworks.sklearn.facts import CLASSES, Facts, from_array, to_array
from umbel.frameworks.sklearn.fitting import fit_on
from umbel.params import NDArray

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["begin", "facts_of", "prepare", "read", "train", "write"]


def prepare(model: BaseEstimator, facts: Facts, x: object) -> None:
    """Draws first weights as scikit-learn draws them, in place."""
    labels = facts.classes if facts.classes is not None else np.zeros(2)
    y = labels if facts.outputs is None else np.zeros((2, facts.outputs))
    zeros = np.zeros((len(y), facts.features), facts.dtype)
    kept = {name: getattr(model, name) for name in ("learning_rate_init", "solver", "alpha", "warm_start", "verbose")}
    # A step of size 0 leaves the weights as they were drawn; scikit-learn wants more than 0.
    model.set_params(learning_rate_init=1e-300, solver="sgd", alpha=0.0, warm_start=False, verbose=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.partial_fit(zeros, y, **({} if facts.classes is None else {"classes": facts.classes}))
    finally:
        model.set_params(**kept)
    begin(model)


def facts_of(arrays: Mapping[str, NDArray]) -> Facts:
    """What the parameters of such a model show."""
    first = arrays["coefs_.0"]
    classes = from_array(arrays[CLASSES]) if CLASSES in arrays else None
    last = arrays[f"intercepts_.{sum(name.startswith('intercepts_.') for name in arrays) - 1}"]
    outputs = None if classes is not None or len(last) == 1 else len(last)
    return Facts(len(first), classes, outputs, dtype=first.dtype)


def read(model: BaseEstimator) -> dict[str, NDArray]:
    """Copies of the weights, layer by layer, and the classes."""
    arrays = {}
    for layer, (coef, intercept) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        arrays[f"coefs_.{layer}"], arrays[f"intercepts_.{layer}"] = np.array(coef), np.array(intercept)
    if hasattr(model, "classes_"):
        arrays[CLASSES] = to_array(model.classes_)
    return arrays


def write(model: BaseEstimator, arrays: Mapping[str, NDArray]) -> None:
    """Writes them into a network that has weights, in place."""
    layers = range(len(model.coefs_))
    model.coefs_ = [np.array(arrays[f"coefs_.{layer}"]) for layer in layers]
    model.intercepts_ = [np.array(arrays[f"intercepts_.{layer}"]) for layer in layers]
    begin(model)


def begin(model: BaseEstimator) -> None:
    """Forgets what an optimizer and a stopping rule remember: it belongs to other weights."""
    for name in ("_optimizer", "loss_curve_", "_best_coefs", "_best_intercepts"):
        if hasattr(model, name):
            delattr(model, name)
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.loss_curve_, model.best_loss_ = [], np.inf


def train(model: BaseEstimator, x: object, y: object) -> None:
    """One pass over the rows, or a fit with "lbfgs"."""
    if model.solver != "lbfgs":
        model.partial_fit(x, y)
        return
    dtype = model.coefs_[0].dtype
    fit_on(model, x, y)
    for weights in (model.coefs_, model.intercepts_):
        weights[:] = [array.astype(dtype, copy=False) for array in weights]  # lbfgs makes them float64
