"""LightGBM: one booster that all clients grow. Knows no rounds.

    from umbel.frameworks import lightgbm as umbel_lightgbm

    client = umbel_lightgbm.client({"objective": "binary"}, train=(X, y), test=(X_test, y_test))

with `strategy=FedLgbBagging()`, for which all clients grow trees beside each other, or `FedLgbCyclic()`, one after another.
The booster comes home as LightGBM's own: `booster = umbel_lightgbm.load(params, history.parameters)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from umbel.dialogue import Metrics
from umbel.frameworks.adapter import Given, needs
from umbel.frameworks.boosters import BoosterClient, bytes_of, check_rows, params_given
from umbel.params import Blob, NDArray, as_arrays

with needs("lightgbm"):
    import lightgbm

__all__ = ["client", "load", "parameters_of"]

# The same rows give the same trees, also where LightGBM would try which of its ways is faster.
_REPEATS = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
_RATES = ("learning_rate", "eta", "shrinkage_rate")


class _Rows(NamedTuple):
    x: object
    y: NDArray


class _LightGBM:
    """What LightGBM says about its boosters."""

    def rows_of(self, data: object, params: Mapping[str, object]) -> _Rows:
        x, y = check_rows(data, "a function that gives them; a lightgbm.Dataset keeps no rows to go on from")
        return _Rows(x, np.asarray(y))

    def count(self, rows: _Rows) -> int:
        return len(rows.y)

    def grow(
        self,
        params: Mapping[str, object],
        rows: _Rows,
        rounds: int,
        booster: lightgbm.Booster | None,
        beside: int | None,
    ) -> lightgbm.Booster:
        settings = {**_REPEATS, **params}
        if beside is not None:  # an average that each client had from its own rows would count once for each
            rates = [settings.pop(name) for name in _RATES if name in settings]
            settings |= {"boost_from_average": False, "learning_rate": float(rates[0] if rates else 0.1) / beside}  # type: ignore[arg-type]  # its own check
        table = lightgbm.Dataset(rows.x, label=rows.y, params=dict(settings), free_raw_data=False)
        return lightgbm.train(settings, table, num_boost_round=rounds, init_model=booster)

    def newest(self, booster: lightgbm.Booster, rounds: int) -> lightgbm.Booster:
        begin = booster.num_trees() // booster.num_model_per_iteration() - rounds
        return lightgbm.Booster(model_str=booster.model_to_string(start_iteration=begin))

    def to_bytes(self, booster: lightgbm.Booster) -> bytes:
        text: str = booster.model_to_string()
        return text.encode()

    def from_bytes(self, raw: bytes, params: Mapping[str, object]) -> lightgbm.Booster:
        return lightgbm.Booster(model_str=raw.decode())

    def measure(self, booster: lightgbm.Booster, rows: _Rows) -> tuple[float, Metrics]:
        predicted = np.asarray(booster.predict(rows.x))
        objective = booster.dump_model(num_iteration=0)["objective"].split()[0]
        if objective == "binary":
            chances = np.stack([1 - predicted, predicted], axis=1)
            return _log_loss(chances, rows.y)
        if objective in ("multiclass", "multiclassova"):
            return _log_loss(predicted / predicted.sum(axis=1, keepdims=True), rows.y)
        return float(np.mean((predicted - rows.y) ** 2)), {}


def _log_loss(chances: NDArray, labels: NDArray) -> tuple[float, Metrics]:
    places = labels.astype(int)
    given = chances[np.arange(len(places)), places]
    accuracy = float(np.mean(chances.argmax(axis=1) == places))
    return float(-np.log(np.clip(given, 1e-15, 1.0)).mean()), {"accuracy": accuracy}


_library = _LightGBM()


def client(
    params: Mapping[str, object], train: object, test: object = None, *, rounds: int = 1
) -> BoosterClient[lightgbm.Booster, _Rows]:
    """A client that grows trees on its rows, for `FedLgbBagging` and `FedLgbCyclic`.

    - `params`: LightGBM's, such as {"objective": "binary", "num_leaves": 15}. All clients need the same. For bagging the
      learning rate is divided by the number of clients that grow trees beside each other, and no client boosts from its own
      average. `deterministic` and `force_row_wise` are on unless they are given.
    - `train`, `test`: (X, y), or a function of the client's number (or of its `context`) that gives them. The loss is the
      log loss of a classifier, with "accuracy", and the mean squared error of others.
    - `rounds`: how many rounds of boosting a client does in one round of the federation

    Raises `TypeError` for params that are none, and `ValueError` for boosters whose trees cannot be added.
    """
    settings = params_given(params, "LightGBM")
    kind = next((settings[name] for name in ("boosting", "boosting_type", "boost") if name in settings), "gbdt")
    if kind not in ("gbdt", "gbrt", "goss") or settings.get("linear_tree"):
        raise ValueError(f"trees of boosting={kind!r} or with linear_tree cannot be added; leave it out, or write 'gbdt'")
    return BoosterClient(_library, settings, train, test, rounds)


def parameters_of(booster: lightgbm.Booster) -> dict[str, NDArray]:
    """A booster's bytes, as they travel: {"booster": …}."""
    return {"booster": as_arrays([_library.to_bytes(booster)])[0].view(Blob)}


def load(params: Mapping[str, object], parameters: Given) -> lightgbm.Booster:
    """The booster that `parameters` are; `params` are not needed for it, and may be {}.

    Raises `ParametersNotReady` where there is none so far, and `ParametersMismatch` for what is no booster's bytes.
    """
    return _library.from_bytes(bytes_of(parameters), params_given(params, "LightGBM"))
