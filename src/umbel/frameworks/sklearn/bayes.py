"""Naive Bayes: what it has counted, divided by the number of rows, so that FedAvg's mean is what all rows together give.

For every client k with nₖ rows, Σ nₖ · (countsₖ / nₖ) / Σ nₖ = Σ countsₖ / Σ nₖ: one round is the model of all rows in one
place, up to rounding. Each round begins anew with its own rows, so that no row is counted twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from umbel.frameworks.sklearn.facts import CLASSES, Facts, from_array, to_array
from umbel.params import NDArray

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["begin", "facts_of", "prepare", "read", "train", "write"]

# Of a class: its part of the rows, and for each feature the sum over its rows, divided by the number of all rows.
PARTS, SUMS = "class_parts", "feature_sums"
# GaussianNB: sums of differences from a point that all clients have in common, and of their squares. A point among the data
# keeps the digits that a variance loses where means are large.
CENTER, SQUARES = "center", "feature_squares"
EXAMPLES = "examples"  # how many rows there are in all: what smoothing is measured by


def prepare(model: BaseEstimator, facts: Facts, x: object) -> None:
    """Gives a model that was never fitted the classes, all as likely, in place."""
    assert facts.classes is not None
    count = len(facts.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.partial_fit(np.ones((count, facts.features), facts.dtype), facts.classes, classes=facts.classes)
    arrays = _empty(model, facts, x) | {CLASSES: to_array(facts.classes), EXAMPLES: np.array(facts.examples, np.int64)}
    write(model, arrays)


def _empty(model: BaseEstimator, facts: Facts, x: object) -> dict[str, NDArray]:
    assert facts.classes is not None
    shape = (len(facts.classes), facts.features)
    arrays = {PARTS: np.full(shape[0], 1 / shape[0]), SUMS: np.full(shape, 0.0)}
    if hasattr(model, "theta_"):
        center = np.zeros(shape[1]) if x is None else np.asarray(x, np.float64).mean(axis=0)
        arrays |= {CENTER: center, SQUARES: np.full(shape, 1 / shape[0])}
    return arrays


def facts_of(arrays: Mapping[str, NDArray]) -> Facts:
    """What the parameters of such a model show."""
    return Facts(arrays[SUMS].shape[1], from_array(arrays[CLASSES]), examples=int(arrays[EXAMPLES]))


def read(model: BaseEstimator) -> dict[str, NDArray]:
    """What the model has counted, per row; the classes, and the number of rows that it was told."""
    counts = np.array(model.class_count_, np.float64)
    rows = counts.sum() or 1.0
    told = getattr(model, "_umbel_examples", None)
    arrays = {PARTS: counts / rows}
    if hasattr(model, "theta_"):
        center = getattr(model, "_umbel_center", None)
        center = counts @ model.theta_ / rows if center is None else center
        apart = np.asarray(model.theta_, np.float64) - center
        spread = np.maximum(np.asarray(model.var_, np.float64) - model.epsilon_, 0.0)
        parts = arrays[PARTS][:, np.newaxis]
        arrays |= {SUMS: parts * apart, SQUARES: parts * (spread + apart**2), CENTER: center}
    else:
        arrays[SUMS] = np.array(model.feature_count_, np.float64) / rows
    arrays[EXAMPLES] = np.array(told or rows, np.int64)
    return arrays | {CLASSES: to_array(model.classes_)}


def write(model: BaseEstimator, arrays: Mapping[str, NDArray]) -> None:
    """The model that has counted this, in place."""
    parts, sums = arrays[PARTS], arrays[SUMS]
    examples = int(arrays[EXAMPLES])
    model._umbel_examples = examples
    model.class_count_ = parts * examples
    if hasattr(model, "theta_"):
        _write_gaussian(model, arrays)
        return
    model.feature_count_ = sums * examples
    if hasattr(model, "feature_all_"):
        model.feature_all_ = model.feature_count_.sum(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that nobody has seen: log 0
        model._update_feature_log_prob(model._check_alpha())
        model._update_class_log_prior(class_prior=model.class_prior)


def _write_gaussian(model: BaseEstimator, arrays: Mapping[str, NDArray]) -> None:
    parts, sums, squares, center = arrays[PARTS], arrays[SUMS], arrays[SQUARES], arrays[CENTER]
    seen = parts > 0
    share = np.where(seen, parts, 1.0)[:, np.newaxis]
    apart = sums / share
    spread = np.maximum(squares / share - apart**2, 0.0)
    of_all = squares.sum(axis=0) - sums.sum(axis=0) ** 2  # the variance of each feature over all rows
    model.epsilon_ = model.var_smoothing * max(float(of_all.max()), 0.0)
    model.theta_ = np.where(seen[:, np.newaxis], center + apart, 0.0)
    model.var_ = np.where(seen[:, np.newaxis], spread, 0.0) + model.epsilon_
    model.class_prior_ = parts.copy() if model.priors is None else np.asarray(model.priors)
    model._umbel_center = center + sums.sum(axis=0)  # the mean of all rows, once it is known


def begin(model: BaseEstimator) -> None:
    """Takes the counts away, so that the client's own rows are all that it counts; what it predicts by stays."""
    model.class_count_ = np.zeros_like(model.class_count_)
    if hasattr(model, "feature_count_"):
        model.feature_count_ = np.zeros_like(model.feature_count_)
    if hasattr(model, "feature_all_"):
        model.feature_all_ = np.zeros_like(model.feature_all_)


def train(model: BaseEstimator, x: object, y: object) -> None:
    """Counts the rows."""
    model.partial_fit(x, y)
