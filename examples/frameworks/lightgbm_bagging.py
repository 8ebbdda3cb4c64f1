"""LightGBM: ten owners of digits grow one booster, each its own trees in each round."""

import umbel as fl
from digits import arrays
from umbel.frameworks import lightgbm as umbel_lightgbm


def rows(number):
    images, labels = arrays(number)
    return images.reshape(len(images), 64), labels


params = {"objective": "multiclass", "num_class": 10, "num_leaves": 8, "learning_rate": 0.3, "min_data_in_leaf": 5}
client = umbel_lightgbm.client(params, train=rows, test=rows)
strategy = fl.server.strategy.FedLgbBagging

if __name__ == "__main__":
    rounds = fl.server.ServerConfig(num_rounds=5)
    fl.simulation.start_simulation(client_fn=client, num_clients=10, strategy=strategy(), config=rounds)
