"""Boosted trees: five hospitals grow one XGBoost model, each its own trees beside the others'."""

from sklearn.datasets import load_breast_cancer

import umbel as fl
from umbel.frameworks import xgboost

x, y = load_breast_cancer(return_X_y=True)


def load(number):
    return x[number::5], y[number::5]


params = {"objective": "binary:logistic", "max_depth": 4}
client, bagging = xgboost.client(params, load, load), fl.server.strategy.FedXgbBagging()
config = fl.server.ServerConfig(num_rounds=10)
history = fl.simulation.start_simulation(client_fn=client, num_clients=5, strategy=bagging, config=config)
booster = xgboost.load(params, history.parameters)
