"""Which estimators can be federated, and how each family of them does it. Knows estimators; knows no client.

A family's functions are given an estimator and change it in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from umbel.frameworks.errors import ParametersNotReady
from umbel.frameworks.sklearn import bayes, clusters, linear, networks
from umbel.frameworks.sklearn.facts import Facts
from umbel.params import NDArray

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["FAMILIES", "Family", "check_fitted", "classifies", "family_of", "is_fitted", "names_of", "prepare", "train"]


class Family(NamedTuple):
    """What the estimators of one family have in common.

    - `estimators`: their names; `fitted`: the attribute that those have that are fitted
    - `prepare(model, facts, x)`: makes the parameters of one that was never fitted; `x` are rows, or None
    - `facts_of(arrays)`: what parameters show of the data
    - `read(model)`, `write(model, arrays)`: parameters by name
    - `begin(model)`: before training; `train(model, x, y)`: one round's training
    """

    estimators: tuple[str, ...]
    fitted: str
    prepare: Callable[[BaseEstimator, Facts, object], None]
    facts_of: Callable[[Mapping[str, NDArray]], Facts]
    read: Callable[[BaseEstimator], dict[str, NDArray]]
    write: Callable[[BaseEstimator, Mapping[str, NDArray]], None]
    begin: Callable[[BaseEstimator], None]
    train: Callable[[BaseEstimator, object, object], None]


def _of(module: object, fitted: str, estimators: str) -> Family:
    parts = (getattr(module, name) for name in Family._fields[2:])
    return Family(tuple(estimators.split()), fitted, *parts)


FAMILIES = (
    _of(
        linear,
        "coef_",
        "SGDClassifier SGDRegressor Perceptron PassiveAggressiveClassifier PassiveAggressiveRegressor LogisticRegression "
        "RidgeClassifier LinearRegression Ridge Lasso ElasticNet HuberRegressor PoissonRegressor GammaRegressor "
        "TweedieRegressor",
    ),
    _of(networks, "coefs_", "MLPClassifier MLPRegressor"),
    _of(bayes, "class_count_", "GaussianNB MultinomialNB BernoulliNB ComplementNB"),
    _of(clusters, "cluster_centers_", "KMeans MiniBatchKMeans"),
)
_REMEDIES = {
    "SVC": "SGDClassifier(loss='hinge') is the linear one",
    "LinearSVC": "SGDClassifier(loss='hinge') is the same model",
    "SVR": "SGDRegressor(loss='epsilon_insensitive') is the linear one",
    "LinearSVR": "SGDRegressor(loss='epsilon_insensitive') is the same model",
}
AGREED = "strategy=Agreed(FedAvg(), model=estimator)"
_TREES = ("Tree", "Forest", "Boost", "Bagging")


def family_of(model: BaseEstimator) -> Family:
    """The family of an estimator, or of one that is derived from its. Raises `TypeError` for those that have none."""
    from sklearn.base import BaseEstimator

    cls = model if isinstance(model, type) else type(model)
    if not issubclass(cls, BaseEstimator):
        raise TypeError(f"a {cls.__name__} is no scikit-learn estimator")
    for parent in cls.__mro__:
        if not parent.__module__.startswith("sklearn."):
            continue
        for family in FAMILIES:
            if parent.__name__ in family.estimators and not cls.__name__.endswith("CV"):
                return family
    raise TypeError(_refusal(cls.__name__))


def _refusal(name: str) -> str:
    remedy = _REMEDIES.get(name, "")
    if any(part in name for part in _TREES):
        remedy = "trees are federated by umbel.frameworks.xgboost and umbel.frameworks.lightgbm"
    elif name == "Pipeline":
        remedy = "federate its last step, and give it rows that the steps before it have transformed"
    elif name.endswith("CV"):
        remedy = f"federate {name.removesuffix('CV')} with the settings that a search on one client's rows has found"
    known = ", ".join(estimator for family in FAMILIES for estimator in family.estimators)
    return f"{name} has no parameters that can be averaged{'; ' + remedy if remedy else ''}. These can be federated: {known}"


def is_fitted(model: BaseEstimator) -> bool:
    """Whether an estimator has parameters."""
    return hasattr(model, family_of(model).fitted)


def classifies(model: BaseEstimator) -> bool:
    """Whether it is a classifier, whose classes must be known."""
    from sklearn.base import is_classifier

    return bool(is_classifier(model))


def check_fitted(model: BaseEstimator) -> None:
    """Raises `ParametersNotReady` for an estimator without parameters."""
    if is_fitted(model):
        return
    labels = " and classes" if classifies(model) else ""
    named = "classes=[…] and features=n" if labels else "features=n"
    raise ParametersNotReady(
        f"{type(model).__name__} is not fitted: it has no parameters before its features{labels} are known. Fit it, or give "
        f"client(...) data=(X, y) or {named}"
    )


def prepare(model: BaseEstimator, facts: Facts, x: object = None) -> None:
    """Makes the parameters of an estimator that has none, in place. Raises `ParametersNotReady` without its classes.

    What is drawn follows from its random_state, or from 0 where it has none, so that all clients draw the same.
    """
    if classifies(model):
        if facts.classes is None:
            raise ParametersNotReady(f"{type(model).__name__} needs its classes: classes=[…], or data=(X, y)")
        if len(facts.classes) < 2:
            raise ParametersNotReady(
                f"{type(model).__name__} needs two classes, and {facts.classes.tolist()} is all that this client has. Name "
                f"all of them with classes=[…] in client(...), or let the clients agree first: {AGREED}"
            )
    own = model.get_params(deep=False)
    drawing = {"random_state": copy.deepcopy(own["random_state"]) or 0} if "random_state" in own else {}
    model.set_params(**drawing)
    try:
        family_of(model).prepare(model, facts, x)
    finally:
        model.set_params(**{name: own[name] for name in drawing})


def train(model: BaseEstimator, x: object, y: object) -> None:
    """One round's training of a fitted estimator, in place, on rows that get the dtype of its parameters."""
    family = family_of(model)
    dtype = family.facts_of(family.read(model)).dtype
    rows = x if getattr(x, "dtype", dtype) == dtype or not hasattr(x, "astype") else x.astype(dtype)
    family.train(model, rows, y)


def names_of(model: BaseEstimator) -> list[str]:
    """What the parameters of an estimator are called, in their order, whatever its features and classes are."""
    from sklearn.base import clone

    example = clone(model)
    prepare(example, Facts(2, np.arange(2) if classifies(model) else None), None)
    return list(family_of(model).read(example))
