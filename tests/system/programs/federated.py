"""One program: simulated on a laptop, served, and joined by each owner of data. `federated.py HOW [ADDRESS [NUMBER]]`."""

import sys

import torch
from torch import nn

import umbel as fl
from umbel.callbacks import ModelCheckpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))


def load(number):
    draw = torch.Generator().manual_seed(number)
    x = torch.randn(60, 4, generator=draw)
    return torch.utils.data.TensorDataset(x, (x.sum(1) > number).long())


def train(net, data, round):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.1 / round)
    for x, y in torch.utils.data.DataLoader(data, 20, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def test(net, data):
    net.eval()
    x, y = data.tensors
    with torch.no_grad():
        return nn.functional.cross_entropy(net(x), y).item()


if __name__ == "__main__":
    how, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    fed = fl.federate(Net, train, test, data=load, personal="head.*")
    options = {"rounds": 3, "strategy": "fedavgm", "seed": 5, "server_momentum": 0.5, "min_available_clients": 3}
    options["callbacks"] = [ModelCheckpoint(f"{how}.safetensors")]
    if how == "join":
        fed.join(rest[0], client_id=rest[1])
    else:
        history = fed.serve(rest[0], **options) if how == "serve" else fed.simulate(clients=3, backend=rest[0], **options)
        with open(f"{how}.json", "w") as file:
            file.write(history.to_json())
