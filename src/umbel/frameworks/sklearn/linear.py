"""Linear models: coefficients and intercepts are averaged, and each client goes on from the average.

Those with `partial_fit` make one pass over the rows in each round. Those without are fitted, from the global coefficients
where they take a warm start, and otherwise anew: then one round is the mean of the clients' own solutions.
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

STEPS = "t_"  # how many rows SGD has seen, from which its learning rate follows


def prepare(model: BaseEstimator, facts: Facts, x: object) -> None:
    """Gives an estimator that was never fitted coefficients that are 0, in place."""
    # A fit to rows of zeros makes everything that the estimator keeps, whichever it is.
    labels = facts.classes if facts.classes is not None else np.ones(2)
    y = np.tile(labels, 2)
    if facts.outputs is not None:
        y = np.ones((len(y), facts.outputs))
    zeros = np.zeros((len(y), facts.features), facts.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is learned from zeros, and need not
        if hasattr(model, "partial_fit"):
            model.partial_fit(zeros, y, **({} if facts.classes is None else {"classes": facts.classes}))
            model.t_ = 1.0
        else:
            model.fit(zeros, y)
    write(model, {name: array * 0 for name, array in read(model).items() if name in ("coef_", "intercept_")})


def facts_of(arrays: Mapping[str, NDArray]) -> Facts:
    """What the parameters of such a model show."""
    coef = arrays["coef_"]
    classes = from_array(arrays[CLASSES]) if CLASSES in arrays else None
    outputs = len(coef) if classes is None and coef.ndim == 2 else None
    return Facts(coef.shape[-1], classes, outputs, dtype=coef.dtype)


def read(model: BaseEstimator) -> dict[str, NDArray]:
    """Copies of the coefficients, the classes, and SGD's steps."""
    arrays = {"coef_": np.array(model.coef_)}
    if getattr(model, "fit_intercept", True):
        arrays["intercept_"] = np.array(model.intercept_, arrays["coef_"].dtype)
    if hasattr(model, "classes_"):
        arrays[CLASSES] = to_array(model.classes_)
    if hasattr(model, STEPS):
        arrays[STEPS] = np.array(model.t_, np.int64)
    return arrays


def write(model: BaseEstimator, arrays: Mapping[str, NDArray]) -> None:
    """Writes them into an estimator that has coefficients, in place."""
    model.coef_ = np.array(arrays["coef_"])
    if "intercept_" in arrays:
        model.intercept_ = np.array(arrays["intercept_"]) if np.ndim(arrays["intercept_"]) else float(arrays["intercept_"])
    if STEPS in arrays:
        model.t_ = float(arrays[STEPS])
    if getattr(model, "average", False):  # averaged SGD keeps the coefficients twice
        model._standard_coef, model._average_coef = np.array(model.coef_), np.array(model.coef_)
        model._standard_intercept, model._average_intercept = np.array(model.intercept_), np.array(model.intercept_)


def begin(model: BaseEstimator) -> None:
    """Nothing is in the way of training."""


def train(model: BaseEstimator, x: object, y: object) -> None:
    """One pass over the rows with `partial_fit`; without it a fit, from the present coefficients where it takes them."""
    if hasattr(model, "partial_fit"):
        model.partial_fit(x, y)
    else:
        fit_on(model, x, y)
