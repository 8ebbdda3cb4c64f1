"""Federated boosting in two ways, beside a central model and beside models of each owner alone: python compare.py DATA"""

import argparse

import numpy as np
import xgboost as xgb
from owner import CLIENTS, DIVIDED, ROUNDS, Owner, error, params, rows

import umbel as fl
from umbel.common import EvaluateIns, Parameters
from umbel.server.strategy import FedXgbBagging, FedXgbCyclic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", choices=DIVIDED, help="569 tumours, 20,000 letters, or 20,190 rows of six sites")
parser.add_argument("--rounds", type=int, default=ROUNDS)
options = parser.parse_args()
data, rounds = options.data, options.rounds


def federated(how, strategy) -> float:
    """Accuracy on the test rows of all owners after the last round."""
    history = fl.simulation.start_simulation(
        client_fn=lambda cid: Owner(data, int(cid), how).to_client(),
        num_clients=CLIENTS,
        config=fl.server.ServerConfig(num_rounds=rounds),
        strategy=strategy(
            initial_parameters=Parameters([], tensor_type=""), min_fit_clients=CLIENTS, min_available_clients=CLIENTS
        ),
        backend="inline",
        progress=False,
    )
    return history.metrics_distributed["accuracy"][-1][1]


class Everyone(FedXgbCyclic):
    """Cyclic boosting that is judged by everyone's test rows, not by the next owner's alone."""

    def configure_evaluate(self, server_round, parameters, client_manager):
        return [(client, EvaluateIns(parameters, {})) for client in client_manager.all().values()]


def accuracy(models, tests) -> float:
    wrong = [error(model, test) * test.num_row() for model, test in zip(models, tests, strict=True)]
    return 1 - sum(wrong) / sum(test.num_row() for test in tests)


owners = [rows(data, owner) for owner in range(CLIENTS)]
tests = [test for _, test in owners]
features = np.vstack([train.get_data().toarray() for train, _ in owners])
labels = np.concatenate([train.get_label() for train, _ in owners])
central = xgb.train(params(data), xgb.DMatrix(features, label=labels), rounds)
alone = [xgb.train(params(data), train, rounds) for train, _ in owners]

truth = np.concatenate([test.get_label() for test in tests]).astype(int)
found = {
    "all rows in one place": accuracy([central] * CLIENTS, tests),
    "bagging": federated("bagging", FedXgbBagging),
    "cyclic": federated("cyclic", Everyone),
    "each owner alone": accuracy(alone, tests),
    "the largest class": np.bincount(truth).max() / len(truth),
}
print(f"\n{data}: accuracy on the test rows of all {CLIENTS} owners, {rounds} rounds")
for name, value in found.items():
    print(f"{name:<22} {value:.4f}")
