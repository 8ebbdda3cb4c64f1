"""scikit-learn: linear models, networks, naive Bayes and k-means, as their users have them. Knows no rounds.

    from umbel.frameworks import sklearn as umbel_sklearn

    client = umbel_sklearn.client(SGDClassifier(), data=load, classes=range(10))

Parameters travel under the names that scikit-learn gives them, such as "coef_", and with them the classes, as "classes_":
the model's file says all that is needed to predict. A client that has only some of the classes learns with all of them.

`FederatedClassifier` and `FederatedRegressor` are estimators themselves, for rows whose owners are in a column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from umbel.frameworks.adapter import needs

with needs("sklearn"):
    import sklearn as _  # noqa: F401  # the others import what they need of it where they need it

from umbel.frameworks.sklearn.agreeing import Agreed
from umbel.frameworks.sklearn.clients import EstimatorClient, adapter, client, load, parameters_of

if TYPE_CHECKING:
    from umbel.frameworks.sklearn.estimators import FederatedClassifier, FederatedRegressor

__all__ = [
    "Agreed",
    "EstimatorClient",
    "FederatedClassifier",
    "FederatedRegressor",
    "adapter",
    "client",
    "load",
    "parameters_of",
]


def __getattr__(name: str) -> object:
    """The estimators, with the server and the simulation that they need, and a client does not."""
    if name in ("FederatedClassifier", "FederatedRegressor"):
        from umbel.frameworks.sklearn import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
