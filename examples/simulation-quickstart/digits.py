"""Twenty owners of handwritten digits train one model together, all of them simulated in one program."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

import umbel as fl
from umbel.common import Metrics

NUM_CLIENTS = 20

# The data: 1,797 images of 8 by 8 pixels, which come with scikit-learn.
images, labels = load_digits(return_X_y=True)
images = images / 16.0  # from 0 to 1
order = np.random.default_rng(0).permutation(len(images))


class Owner(fl.client.NumPyClient):
    """One owner: a twentieth of the digits, a fifth of which is kept back for evaluation."""

    def __init__(self, number: int) -> None:
        mine = order[number::NUM_CLIENTS]
        test, train = mine[: len(mine) // 5], mine[len(mine) // 5 :]
        self.train_images, self.train_labels = images[train], labels[train]
        self.test_images, self.test_labels = images[test], labels[test]

    def get_parameters(self, config):
        return [np.zeros((10, 64)), np.zeros(10)]

    def fit(self, parameters, config):
        model = classifier(parameters)
        model.partial_fit(self.train_images, self.train_labels)  # once over all of mine
        return [model.coef_, model.intercept_], len(self.train_labels), {}

    def evaluate(self, parameters, config):
        model = classifier(parameters)
        loss = log_loss(self.test_labels, model.predict_proba(self.test_images), labels=range(10))
        accuracy = model.score(self.test_images, self.test_labels)
        return loss, len(self.test_labels), {"accuracy": accuracy}


def classifier(parameters) -> SGDClassifier:
    """Logistic regression that goes on from these parameters."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.2)
    model.classes_ = np.arange(10)
    model.coef_, model.intercept_ = parameters
    return model


def client_fn(context: fl.common.Context) -> fl.client.Client:
    """The client that the simulation asks for."""
    return Owner(int(context.node_id)).to_client()


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    """The accuracy over all owners' test digits: each owner counts by how many it has."""
    correct = [num_examples * m["accuracy"] for num_examples, m in metrics]
    examples = [num_examples for num_examples, _ in metrics]
    return {"accuracy": sum(correct) / sum(examples)}


history = fl.simulation.start_simulation(
    client_fn=client_fn,
    num_clients=NUM_CLIENTS,
    config=fl.server.ServerConfig(num_rounds=10),
    strategy=fl.server.strategy.FedAvg(
        fraction_fit=0.5,  # in each round ten of the twenty train,
        fraction_evaluate=1.0,  # and all of them evaluate
        evaluate_metrics_aggregation_fn=weighted_average,
    ),
    backend="inline",  # one owner after another, in this process; leave it out, and Umbel chooses
)

history.plot().savefig("learning.png")
print("How it learned: learning.png")
