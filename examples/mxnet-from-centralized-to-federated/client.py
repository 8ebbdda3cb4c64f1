"""One client: trains the model of `mxnet_mnist.py` on its own part of MNIST. Knows no other client."""

import argparse

import umbel as fl
from umbel.frameworks.mxnet import get_parameters, set_parameters

import mxnet_mnist


class MNISTClient(fl.client.NumPyClient):
    def __init__(self, net, train_data, val_data, device):
        self.net = net
        self.train_data = train_data
        self.val_data = val_data
        self.device = device

    def get_parameters(self, config):
        return get_parameters(self.net)

    def fit(self, parameters, config):
        set_parameters(self.net, parameters)
        accuracy = mxnet_mnist.train(self.net, self.train_data, epoch=2, device=self.device)
        return get_parameters(self.net), self.train_data.num_data, {"accuracy": accuracy}

    def evaluate(self, parameters, config):
        set_parameters(self.net, parameters)
        loss, accuracy = mxnet_mnist.test(self.net, self.val_data, device=self.device)
        return loss, self.val_data.num_data, {"accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partition-id", type=int, choices=[0, 1], required=True, help="which half of MNIST is mine")
    parser.add_argument("--server-address", default="127.0.0.1:8080", help="where the server is (default: %(default)s)")
    args = parser.parse_args()

    train_data, val_data = mxnet_mnist.load_data(args.partition_id, num_partitions=2)
    client = MNISTClient(mxnet_mnist.model(), train_data, val_data, mxnet_mnist.DEVICE)
    fl.client.start_client(server_address=args.server_address, client=client)


if __name__ == "__main__":
    main()
