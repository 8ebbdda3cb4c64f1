"""XGBoost: one booster that all clients grow. Knows no rounds.

    from umbel.frameworks import xgboost as umbel_xgboost

    client = umbel_xgboost.client({"objective": "binary:logistic"}, train=(X, y), test=(X_test, y_test))

with `strategy=FedXgbBagging()`, for which all clients grow trees beside each other, or `FedXgbCyclic()`, one after another.
The booster comes home as XGBoost's own: `booster = umbel_xgboost.load(params, history.parameters)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from umbel.dialogue import Metrics
from umbel.frameworks.adapter import Given, needs
from umbel.frameworks.boosters import BoosterClient, bytes_of, check_rows, params_given
from umbel.params import Blob, NDArray, as_arrays

with needs("xgboost"):
    import xgboost

__all__ = ["client", "load", "parameters_of"]


class _XGBoost:
    """What XGBoost says about its boosters."""

    def rows_of(self, data: object, params: Mapping[str, object]) -> xgboost.DMatrix:
        if isinstance(data, xgboost.DMatrix):
            return data
        x, y = check_rows(data, "an xgboost.DMatrix")
        return xgboost.DMatrix(x, label=y)

    def count(self, rows: xgboost.DMatrix) -> int:
        return int(rows.num_row())

    def grow(
        self,
        params: Mapping[str, object],
        rows: xgboost.DMatrix,
        rounds: int,
        booster: xgboost.Booster | None,
        beside: int | None,
    ) -> xgboost.Booster:
        settings = dict(params)
        if beside is not None:  # a score that each client had from its own rows would count once for each
            rate = settings.pop("eta", settings.pop("learning_rate", 0.3))
            settings = {"base_score": 0.5, **settings, "eta": float(rate) / beside}  # type: ignore[arg-type]  # xgboost's own check
        return xgboost.train(settings, rows, rounds, xgb_model=booster, verbose_eval=False)

    def newest(self, booster: xgboost.Booster, rounds: int) -> xgboost.Booster:
        end = booster.num_boosted_rounds()
        return booster[end - rounds : end]

    def to_bytes(self, booster: xgboost.Booster) -> bytes:
        return bytes(booster.save_raw("json"))

    def from_bytes(self, raw: bytes, params: Mapping[str, object]) -> xgboost.Booster:
        booster = xgboost.Booster(dict(params))
        booster.load_model(bytearray(raw))
        return booster

    def measure(self, booster: xgboost.Booster, rows: xgboost.DMatrix) -> tuple[float, Metrics]:
        said = booster.eval(rows, "test").split()[1:]  # "[0]", "test-logloss:0.5", …
        pairs = (one.removeprefix("test-").rpartition(":") for one in said)
        metrics: Metrics = {name: float(value) for name, _, value in pairs}
        loss = float(next(iter(metrics.values())))
        return loss, {**metrics, **_accuracy(booster.predict(rows), rows.get_label())}


def _accuracy(predicted: NDArray, labels: NDArray) -> Metrics:
    """The accuracy, where the labels are classes and the predictions are their chances; {} otherwise."""
    if predicted.ndim == 2 and predicted.shape[1] > 1 and np.allclose(predicted.sum(axis=1), 1, atol=1e-3):
        return {"accuracy": float(np.mean(predicted.argmax(axis=1) == labels))}
    if predicted.ndim == 1 and set(np.unique(labels)) <= {0, 1} and (predicted >= 0).all() and (predicted <= 1).all():
        return {"accuracy": float(np.mean((predicted > 0.5) == labels))}
    return {}


_library = _XGBoost()


def client(
    params: Mapping[str, object], train: object, test: object = None, *, rounds: int = 1
) -> BoosterClient[xgboost.Booster, xgboost.DMatrix]:
    """A client that grows trees on its rows, for `FedXgbBagging` and `FedXgbCyclic`.

    - `params`: XGBoost's, such as {"objective": "binary:logistic", "max_depth": 4}. All clients need the same. For bagging
      the learning rate is divided by the number of clients that grow trees beside each other, and "base_score" is 0.5
      unless it is given: each client would find another.
    - `train`, `test`: (X, y), an `xgboost.DMatrix`, or a function of the client's number (or of its `context`) that gives
      one. The loss is the first metric of `eval_metric`.
    - `rounds`: how many rounds of boosting a client does in one round of the federation

    Raises `TypeError` for params that are none, and `ValueError` for boosters that have no trees to add.
    """
    settings = params_given(params, "XGBoost")
    if settings.get("booster", "gbtree") != "gbtree":
        raise ValueError(f"booster={settings['booster']!r} has no trees that can be added; leave it out, or write 'gbtree'")
    return BoosterClient(_library, settings, train, test, rounds)


def parameters_of(booster: xgboost.Booster) -> dict[str, NDArray]:
    """A booster's bytes, as they travel: {"booster": …}."""
    return {"booster": as_arrays([_library.to_bytes(booster)])[0].view(Blob)}


def load(params: Mapping[str, object], parameters: Given) -> xgboost.Booster:
    """The booster that `parameters` are, with these parameters of XGBoost.

    Raises `ParametersNotReady` where there is none so far, and `ParametersMismatch` for what is no booster's bytes.
    """
    return _library.from_bytes(bytes_of(parameters), params_given(params, "XGBoost"))
