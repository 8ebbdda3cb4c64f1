"""Lightning: its module has the loss and the optimizer, and its Trainer trains."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import umbel as fl
from digits import loader
from umbel.frameworks import lightning as umbel_lightning


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))

    def training_step(self, batch, index):
        loss = cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        scores = self.layers(batch[0])
        accuracy = (scores.argmax(1) == batch[1]).float().mean()
        self.log_dict({"val_loss": cross_entropy(scores, batch[1]), "accuracy": accuracy})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


client = umbel_lightning.client(Net, loader, max_epochs=2)

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
