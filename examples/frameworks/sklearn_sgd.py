"""scikit-learn: a linear classifier on the digits of ten owners, without a function of one's own."""

from sklearn.linear_model import SGDClassifier

import umbel as fl
from digits import arrays
from umbel.frameworks import sklearn as umbel_sklearn


def rows(number):
    images, labels = arrays(number)
    return images.reshape(len(images), 64).astype(float), labels


client = umbel_sklearn.client(SGDClassifier(random_state=0), data=rows, classes=range(10))

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
