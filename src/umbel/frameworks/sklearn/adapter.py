"""What scikit-learn says about its estimators, and what its clients do where no functions are given. Knows no rounds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from umbel.dialogue import Metrics, Parameters
from umbel.frameworks.adapter import Adapter, Given
from umbel.frameworks.calling import NOTHING
from umbel.frameworks.errors import ParametersMismatch, ParametersNotReady
from umbel.frameworks.matching import Shapes
from umbel.frameworks.sklearn import families
from umbel.frameworks.sklearn.facts import CLASSES, Facts
from umbel.params import NDArray

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["EstimatorAdapter", "facts_of", "one_column", "rows_of", "test_on_rows", "train_on_rows"]


class EstimatorAdapter(Adapter["BaseEstimator"]):
    """What scikit-learn says about its estimators.

    `classes` and `features` are those that a client has been told; without them its rows show them.
    """

    name = "sklearn"
    takes_form_from_data = True

    def __init__(self, classes: Sequence[object] | None = None, features: int | None = None) -> None:
        self.classes = None if classes is None else np.unique(np.array(list(classes)))
        self.features = features

    def check(self, model: BaseEstimator) -> None:
        families.family_of(model)

    def shapes_of(self, model: BaseEstimator) -> Shapes:
        return {name: array.shape for name, array in self.arrays_of(model).items()}

    def arrays_of(self, model: BaseEstimator) -> dict[str, NDArray]:
        families.check_fitted(model)
        return families.family_of(model).read(model)

    def prepare(self, model: BaseEstimator, data: Callable[[], object], parameters: Given | None) -> None:
        if parameters is not None:
            self.prepare_for(model, parameters)
        elif not families.is_fitted(model):
            facts, x = self._known(model, data())
            families.prepare(model, facts, x)

    def prepare_for(self, model: BaseEstimator, parameters: Given) -> None:
        """Gives an estimator that is not fitted, or is fitted to other classes, the shapes of these parameters."""
        family, arrays = families.family_of(model), _named(model, parameters)
        shown = family.facts_of(arrays)
        if families.is_fitted(model) and (shown.classes is None or np.array_equal(shown.classes, model.classes_)):
            return
        families.prepare(model, shown)

    def _known(self, model: BaseEstimator, data: object) -> tuple[Facts, object]:
        """What is known where no parameters have come: from the client's keywords, and from its rows."""
        x, y = (None, None) if data is NOTHING else rows_of(data)
        if x is not None:
            facts = facts_of(model, x, y)
        elif self.features is not None:
            facts = Facts(self.features)
        else:
            families.check_fitted(model)  # says what is missing
        if self.features not in (None, facts.features):
            raise ParametersMismatch(f"X has {facts.features} features, features={self.features} was given")
        return facts._replace(classes=facts.classes if self.classes is None else self.classes), x

    def place(self, model: BaseEstimator, arrays: Mapping[str, NDArray]) -> BaseEstimator:
        families.family_of(model).write(model, arrays)
        return model

    def begin(self, model: BaseEstimator) -> None:
        families.family_of(model).begin(model)

    def remember(self, model: BaseEstimator) -> object:
        return copy.deepcopy(model.get_params(deep=False))

    def renew(self, model: BaseEstimator, memory: object, seed: int | None) -> None:
        assert isinstance(memory, dict)
        model.set_params(**copy.deepcopy(memory))  # a RandomState among them begins anew


def facts_of(model: BaseEstimator, x: object, y: object) -> Facts:
    """What one owner's rows show of what this estimator must know."""
    return Facts.of(x, y, classifies=families.classifies(model))


def rows_of(data: object) -> tuple[object, object]:
    """X, an array or a sparse matrix, and y, which is None where `data` is X alone. Raises `TypeError` for no table."""
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _table(data[0]), one_column(data[1])
    if hasattr(data, "shape"):
        return _table(data), None
    if data is NOTHING:
        raise TypeError("there are no rows: data= was not given; it is (X, y), or a function of a number that gives it")
    raise TypeError(f"data= is {_shown(data)}; give (X, y), or X where there are no labels, or train= and test= of your own")


def train_on_rows(model: BaseEstimator, data: object, passes: int = 1) -> int:
    """One round's training on (X, y), or X, in place; says how many rows there were."""
    x, y = rows_of(data)
    if hasattr(model, CLASSES):
        check_known(np.unique(np.asarray(y)), model.classes_)
    for _ in range(passes):
        families.train(model, x, y)
    return _count(x)


def check_known(labels: NDArray, classes: NDArray) -> None:
    """Raises `ParametersNotReady` where there are labels that the model does not know."""
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ParametersNotReady(
            f"this client has the class {unknown.tolist()[0]!r}, the model knows {classes.tolist()[:20]}. Name all classes "
            f"with classes=[…] in client(...), or let the clients agree first: {families.AGREED}"
        )


def test_on_rows(model: BaseEstimator, data: object) -> tuple[float, Metrics]:
    """Loss and metrics on (X, y), or X.

    Of a classifier the log loss, or 1 − accuracy where it gives no probabilities, and "accuracy"; of a regressor the mean
    squared error, and "r2"; of clusters the mean squared distance to the nearest center.
    """
    x, y = rows_of(data)
    if families.classifies(model):
        truth = np.asarray(y)
        accuracy = float(np.mean(model.predict(x) == truth))
        if not hasattr(model, "predict_proba"):
            return 1 - accuracy, {"accuracy": accuracy}
        return _log_loss(model.predict_proba(x), truth, model.classes_), {"accuracy": accuracy}
    if y is None or hasattr(model, "cluster_centers_"):
        return -float(model.score(x)) / max(_count(x), 1), {}
    truth, guessed = np.asarray(y, np.float64), model.predict(x)
    spread = float(np.mean((truth - truth.mean(axis=0)) ** 2))
    error = float(np.mean((truth - guessed) ** 2))
    return error, {"r2": 1 - error / spread} if spread else {}


def _log_loss(chances: NDArray, truth: NDArray, classes: NDArray) -> float:
    places = np.searchsorted(classes, truth).clip(max=len(classes) - 1)
    given = np.where(classes[places] == truth, chances[np.arange(len(truth)), places], 0.0)
    return float(-np.log(np.clip(given, np.finfo(np.float64).eps, 1.0)).mean())


def _named(model: BaseEstimator, parameters: Given) -> dict[str, NDArray]:
    """Parameters by name; those that came as a list without names are in the order in which `read` has them."""
    if isinstance(parameters, Parameters):
        parameters = parameters.arrays()
    if not len(parameters):
        raise ParametersMismatch("the model has no parameters yet: no client's training has counted so far")
    if isinstance(parameters, Mapping):
        return {name: np.asarray(array) for name, array in parameters.items()}
    names = getattr(parameters, "names", None)
    if names is None or list(names)[:1] in (["0"], ["00"]):
        names = families.names_of(model)
    if len(names) != len(parameters):
        known = f"{type(model).__name__} has {len(names)}: {', '.join(names)}"
        raise ParametersMismatch(f"{len(parameters)} arrays came, {known}")
    return {name: np.asarray(array) for name, array in zip(names, parameters, strict=True)}


def one_column(y: object) -> object:
    """y of shape (rows, 1) as (rows,): estimators differ in what they make of such a column."""
    shape: tuple[int, ...] = getattr(y, "shape", ())
    return np.asarray(y).reshape(-1) if len(shape) == 2 and shape[1] == 1 else y


def _table(x: object) -> object:
    """A DataFrame, or lists, as an array; what is sparse stays so."""
    return x if hasattr(x, "tocsr") else np.asarray(x)


def _count(x: object) -> int:
    return int(getattr(x, "shape", (0,))[0])


def _shown(data: object) -> str:
    return f"a {type(data).__name__}" + (f" of {len(data)}" if isinstance(data, (tuple, list)) else "")
