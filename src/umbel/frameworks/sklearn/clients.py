"""An estimator as a client, and parameters in and out of one. Knows no rounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from umbel.context import Context
from umbel.dialogue import Config, Metrics, Scalar
from umbel.frameworks.adapter import Given, load_into
from umbel.frameworks.base import ModelClient
from umbel.frameworks.data import share_of
from umbel.frameworks.sklearn.adapter import EstimatorAdapter, facts_of, rows_of, test_on_rows, train_on_rows
from umbel.frameworks.sklearn.agreeing import FACTS, Agreed, first_model
from umbel.frameworks.sklearn.facts import heard, told
from umbel.frameworks.sklearn.families import classifies
from umbel.params import NamedArrays, NDArray
from umbel.strategies.base import Strategy
from umbel.strategies.fedavg import FedAvg

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["EstimatorClient", "adapter", "client", "load", "parameters_of"]

adapter = EstimatorAdapter()


class EstimatorClient(ModelClient["BaseEstimator"]):
    """A client of an estimator; its properties say what its rows show, and it begins from what all clients have said."""

    def get_properties(self, config: Config) -> dict[str, Scalar]:
        _, model = self._workshop.model_for(self._here)
        x, y = rows_of(share_of(self._data_for(self._here), "train"))
        return told(facts_of(model, x, y))

    def around(self, strategy: Strategy, context: Context) -> Strategy:
        """A classifier whose classes nobody has named begins with those of all clients."""
        adapter, model = self._workshop.new_model(context)
        named = isinstance(adapter, EstimatorAdapter) and adapter.classes is not None
        if named or not classifies(model) or not isinstance(strategy, FedAvg) or isinstance(strategy, Agreed):
            return strategy
        return Agreed(strategy, model=model)

    def fit(self, parameters: NamedArrays, config: Config) -> tuple[dict[str, NDArray], int, Metrics]:
        if FACTS in config and not len(parameters):
            _, model = self._workshop.model_for(self._here)
            parameters = first_model(model, heard(json.loads(str(config[FACTS])))).arrays()
        return super().fit(parameters, config)


def client(
    model: BaseEstimator | type[BaseEstimator] | Callable[[], BaseEstimator],
    train: Callable[..., object] | None = None,
    test: Callable[..., object] | None = None,
    data: object = None,
    *,
    classes: Sequence[object] | None = None,
    features: int | None = None,
    passes: int = 1,
) -> EstimatorClient:
    """A client of this estimator, which need not be fitted.

    - `train(model, data)`, `test(model, data)`: see `ModelClient`. Without `train` each round is `passes` calls of the
      estimator's own `partial_fit`, or of its `fit` where it has no other; without `test` `test_on_rows` measures.
    - `data`: (X, y), or X for clusters; X of shape (rows, features), an array, a DataFrame or a sparse matrix.
    - `classes`: all labels that there are anywhere, `features`: how many columns X has. Without them the clients' rows show
      them: those of the first client, or of all clients with the strategy `Agreed(FedAvg(), model=…)`.

    Raises `TypeError` for an estimator that cannot be federated, with a list of those that can.
    """
    given = EstimatorAdapter(classes, features)
    return EstimatorClient(
        model, train or partial(train_on_rows, passes=passes), test or test_on_rows, data, adapter=given
    )


def parameters_of(model: BaseEstimator) -> dict[str, NDArray]:
    """Copies of what a fitted estimator has learned, by name. Raises `ParametersNotReady` for one that is not fitted.

    >>> from sklearn.linear_model import LinearRegression
    >>> fitted = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    >>> {name: array.round(6).tolist() for name, array in parameters_of(fitted).items()}
    {'coef_': [2.0], 'intercept_': 1.0}
    """
    return adapter.arrays_of(model)


def load(model: BaseEstimator, parameters: Given) -> BaseEstimator:
    """Writes parameters into an estimator in place, and returns it; it need not be fitted.

    Raises `ParametersMismatch` before anything is written where names, number or shapes are others.

    >>> from sklearn.linear_model import LinearRegression
    >>> load(LinearRegression(), {"coef_": [2.0], "intercept_": 1.0}).predict([[5.0]]).tolist()
    [11.0]
    """
    adapter.prepare_for(model, parameters)
    return load_into(adapter, model, parameters)
