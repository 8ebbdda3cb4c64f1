"""Federated training as estimators: each owner's rows stay one client's, as they would in a federation. Knows no network.

They follow scikit-learn's conventions: constructors only keep what they are given, `fit` returns self, `clone`, pipelines,
searches and `cross_validate(..., params={"groups": owner})` work.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import check_consistent_length, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from umbel.common import ndarrays_to_parameters
from umbel.frameworks.sklearn import families
from umbel.frameworks.sklearn.adapter import one_column
from umbel.frameworks.sklearn.clients import client, load
from umbel.frameworks.sklearn.facts import Facts
from umbel.params import NDArray
from umbel.server.app import ServerConfig
from umbel.server.by_name import strategy_named
from umbel.simulation.app import start_simulation
from umbel.strategies.base import Strategy

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from umbel.runtime.observers.history import History

__all__ = ["FederatedClassifier", "FederatedRegressor"]

_Method = Callable[..., NDArray]


def _has(method: str) -> Callable[[_Method], _Method]:
    """For a method that is there where the estimator has it."""

    def check(self: _Federated) -> bool:
        return hasattr(getattr(self, "estimator_", self.estimator), method)

    conditional: Callable[[_Method], _Method] = available_if(check)
    return conditional


class _Federated(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both have in common."""

    def __init__(
        self,
        estimator: BaseEstimator,
        *,
        rounds: int = 10,
        strategy: str | Strategy = "fedavg",
        passes: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.rounds = rounds
        self.strategy = strategy
        self.passes = passes
        self.random_state = random_state

    def predict(self, X: object) -> NDArray:
        """What the model says of each row: shape (rows,)."""
        rows = self._rows(X)
        predicted: NDArray = self.estimator_.predict(rows)
        return predicted

    def _rows(self, X: object) -> object:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=self._sparse, reset=False)

    @property
    def _sparse(self) -> str | bool:
        """Which sparse matrices the estimator takes."""
        return "csr" if get_tags(self.estimator).input_tags.sparse else False

    def _train(self, X: NDArray, y: NDArray, groups: object, facts: Facts) -> Self:
        """Simulates a run in which each group's rows are a client's."""
        owners = [np.arange(len(y))] if groups is None else _rows_by_owner(groups, y)
        draws = check_random_state(self.random_state)
        seed = int(draws.randint(2**31 - 1))
        model = clone(self.estimator)
        if model.get_params(deep=False).get("random_state", 0) is None:
            model.set_params(random_state=seed)
        first = clone(model)
        families.prepare(first, facts)
        strategy = self._strategy(families.family_of(first).read(first), len(owners))
        with _quiet():
            history = start_simulation(
                client_fn=client(model, data=lambda number: (X[owners[number]], y[owners[number]]), passes=self.passes),
                num_clients=len(owners),
                config=ServerConfig(num_rounds=self.rounds),
                strategy=strategy,
                backend="inline",
                progress=False,
                seed=seed,
            )
        if history.failures:
            note = history.failures[0]
            raise ValueError(f"owner {note.client} failed in round {note.round}: {note.text}")
        self.history_: History = history
        self.estimator_ = load(model, history.parameters)
        self.n_iter_ = self.rounds
        return self

    def _strategy(self, first: dict[str, NDArray], owners: int) -> Strategy:
        given = {"initial_parameters": ndarrays_to_parameters(first), "fraction_evaluate": 0.0}
        least = {f"min_{kind}_clients": owners for kind in ("fit", "available")}
        if isinstance(self.strategy, str):
            return strategy_named(self.strategy, {**given, **least})
        strategy = copy.copy(self.strategy)
        for name, value in given.items():
            setattr(strategy, name, value)
        return strategy

    def __sklearn_tags__(self) -> Tags:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.positive_only = inner.input_tags.positive_only
        tags.target_tags.multi_output = inner.target_tags.multi_output and isinstance(self, RegressorMixin)
        return tags


class FederatedClassifier(ClassifierMixin, _Federated):  # type: ignore[misc]  # the same
    """Trains a classifier on rows that stay with their owners: `fit(X, y, groups=owner)`.

    - `estimator`: one that `umbel.frameworks.sklearn` can federate; it is cloned, and stays as it is
    - `rounds`, `strategy`: a name, such as "fedavg" or "fedadam", or an object; `passes` over its rows that a client makes
      in a round
    - `random_state`: the same one gives the same model, bit for bit

    It has `estimator_`, the trained estimator; `classes_`; `history_`, the run's History. An owner may have some of the
    classes only.

    >>> from sklearn.naive_bayes import GaussianNB
    >>> x, y, owner = np.array([[0.0], [1.0], [8.0], [9.0]]), ["low", "low", "high", "high"], ["a", "b", "a", "b"]
    >>> FederatedClassifier(GaussianNB(), rounds=1).fit(x, y, groups=owner).predict([[2.0], [7.0]]).tolist()
    ['low', 'high']
    """

    def fit(self, X: object, y: object, groups: object = None) -> Self:
        """Trains on `X`, shape (rows, features), and `y`, shape (rows,).

        `groups`, shape (rows,), says whose each row is; without it all rows have one owner. Raises `ValueError` for tables
        that are none, and where an owner's training fails.
        """
        rows, labels = validate_data(self, X, y, accept_sparse=self._sparse, dtype=(np.float64, np.float32))
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs two classes at least; y has one class, {self.classes_[0]!r}")
        return self._train(rows, labels, groups, Facts(rows.shape[1], self.classes_, None, len(labels), rows.dtype))

    @_has("predict_proba")
    def predict_proba(self, X: object) -> NDArray:
        """How likely each class is for each row: shape (rows, classes), in the order of `classes_`."""
        rows = self._rows(X)
        chances: NDArray = self.estimator_.predict_proba(rows)
        return chances

    @_has("decision_function")
    def decision_function(self, X: object) -> NDArray:
        """The estimator's own score of each row: shape (rows,) for two classes, (rows, classes) for more."""
        rows = self._rows(X)
        scores: NDArray = self.estimator_.decision_function(rows)
        return scores


class FederatedRegressor(RegressorMixin, _Federated):  # type: ignore[misc]  # the same
    """As `FederatedClassifier`, for regressors: `FederatedRegressor(SGDRegressor()).fit(X, y, groups=owner)`.

    >>> from sklearn.linear_model import LinearRegression
    >>> x, owner = np.array([[0.0], [1.0], [2.0], [3.0]]), [7, 7, 8, 8]
    >>> model = FederatedRegressor(LinearRegression(), rounds=1).fit(x, [1, 3, 5, 7], groups=owner)
    >>> model.predict([[5.0]]).round(6).tolist()
    [11.0]
    """

    def fit(self, X: object, y: object, groups: object = None) -> Self:
        """Trains on `X`, shape (rows, features), and `y`, shape (rows,), or (rows, targets) where the estimator takes that.

        `groups`: as in `FederatedClassifier.fit`.
        """
        several = get_tags(self.estimator).target_tags.multi_output
        rows, targets = validate_data(
            self, X, y, accept_sparse=self._sparse, dtype=(np.float64, np.float32), multi_output=several, y_numeric=True
        )
        targets = np.asarray(one_column(targets))
        outputs = targets.shape[1] if targets.ndim == 2 else None
        return self._train(rows, targets, groups, Facts(rows.shape[1], None, outputs, len(targets), rows.dtype))


def _rows_by_owner(groups: object, y: NDArray) -> list[NDArray]:
    """The rows of each owner, in the order of the owners' names."""
    names = column_or_1d(groups)
    check_consistent_length(names, y)
    _, owner_of = np.unique(names, return_inverse=True)
    return [np.flatnonzero(owner_of == owner) for owner in range(owner_of.max() + 1)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the run's lines: an estimator prints nothing, and raises what goes wrong."""
    log = logging.getLogger("umbel")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
