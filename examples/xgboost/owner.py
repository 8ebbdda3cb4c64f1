"""One owner of rows: grows trees on the booster that it is given, and sends them."""

import numpy as np
import xgboost as xgb

import umbel as fl
from umbel.datasets import DirichletPartitioner, FederatedDataset, IidPartitioner, NaturalIdPartitioner

ROUNDS = 20
CLIENTS = 6

# Six hospitals that share the tumours evenly; six offices that see some letters more often than others; six sites of a
# study, as they were.
DIVIDED = {
    "breast_cancer": lambda: IidPartitioner(CLIENTS),
    "letters": lambda: DirichletPartitioner(CLIENTS, partition_by="y", alpha=1.0),
    "randhie": lambda: NaturalIdPartitioner(partition_by="site"),
}


def params(data: str) -> dict:
    """What xgboost is told: two classes by one tree a round, 26 letters by 26."""
    letters = {"objective": "multi:softprob", "num_class": 26}
    classes = letters if data == "letters" else {"objective": "binary:logistic"}
    return {**classes, "max_depth": 4, "eta": 0.3, "nthread": 1, "seed": 0, "base_score": 0.5}


def rows(data: str, owner: int) -> tuple[xgb.DMatrix, xgb.DMatrix]:
    """An owner's rows for training and for testing."""
    part = FederatedDataset(dataset=data, partitioners={"train": DIVIDED[data]()}).load_partition(owner)
    splits = part.train_test_split(test_size=0.25, seed=owner)
    return matrix(splits["train"]), matrix(splits["test"])


def matrix(part) -> xgb.DMatrix:
    return xgb.DMatrix(np.asarray(part["x"], dtype="float32"), label=np.asarray(part["y"]))


def booster(raw: bytes, params: dict) -> xgb.Booster:
    made = xgb.Booster(params)
    made.load_model(bytearray(raw))
    return made


def error(model: xgb.Booster, test: xgb.DMatrix) -> float:
    """Part of the rows that are guessed wrong."""
    chances = model.predict(test)
    guessed = chances > 0.5 if chances.ndim == 1 else chances.argmax(axis=1)
    return float(np.mean(guessed != test.get_label()))


class Owner(fl.client.NumPyClient):
    def __init__(self, data: str, owner: int, how: str) -> None:
        self.train, self.test = rows(data, owner)
        self.how = how
        self.params = params(data)
        if how == "bagging":  # a round adds the trees of all: each goes a part of the way
            self.params["eta"] /= CLIENTS

    def fit(self, parameters, config):
        if parameters:
            model = booster(bytes(parameters[0]), self.params)
            model.update(self.train, model.num_boosted_rounds())
        else:
            model = xgb.train(self.params, self.train, 1)
        if self.how == "bagging":
            model = model[model.num_boosted_rounds() - 1 :]  # the new tree
        return [bytes(model.save_raw("json"))], int(self.train.num_row()), {}

    def evaluate(self, parameters, config):
        wrong = error(booster(bytes(parameters[0]), self.params), self.test)
        return wrong, int(self.test.num_row()), {"accuracy": 1 - wrong}
