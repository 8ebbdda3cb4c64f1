"""XGBoost: ten owners of digits grow one booster, each its own trees in each round."""

import umbel as fl
from digits import arrays
from umbel.frameworks import xgboost as umbel_xgboost


def rows(number):
    images, labels = arrays(number)
    return images.reshape(len(images), 64), labels


params = {"objective": "multi:softprob", "num_class": 10, "max_depth": 3, "eta": 1.0}
client = umbel_xgboost.client(params, train=rows, test=rows)
strategy = fl.server.strategy.FedXgbBagging

if __name__ == "__main__":
    rounds = fl.server.ServerConfig(num_rounds=5)
    fl.simulation.start_simulation(client_fn=client, num_clients=10, strategy=strategy(), config=rounds)
