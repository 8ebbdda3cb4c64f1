"""One owner of data: a site of the health insurance experiment, or a role of Shakespeare's."""

import argparse
import importlib

import numpy as np

import umbel as fl

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("task", choices=["visits", "lines"], help="visits to a doctor, or Shakespeare's lines")
parser.add_argument("--node-id", type=int, choices=range(6), required=True, help="which owner this is")
parser.add_argument("--server-address", default="127.0.0.1:8080", help="host:port of the server")
args = parser.parse_args()

task = importlib.import_module(args.task)
np.random.seed(args.node_id)

part = task.divided().load_partition(node_id=args.node_id)
splits = part.train_test_split(test_size=0.2)
train, test = task.arrays(splits["train"]), task.arrays(splits["test"])


class Owner(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return task.train(parameters, *train), len(train[1]), {}

    def evaluate(self, parameters, config):
        loss, accuracy = task.evaluate(parameters, *test)
        return loss, len(test[1]), {"accuracy": accuracy}


fl.client.start_client(server_address=args.server_address, client=Owner().to_client())
