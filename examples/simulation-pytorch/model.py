"""A small convolutional network, and what is done with it. Nothing in here knows of a federation."""

import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """14,538 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=5, stride=2), nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 5 * 5, 32), nn.ReLU(),
            nn.Linear(32, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.float() / 255.0)


def train(net: Net, images: torch.Tensor, labels: torch.Tensor, learning_rate: float, batch_size: int = 32) -> None:
    """One pass over the images, in an order drawn by chance."""
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    for batch in torch.randperm(len(labels)).split(batch_size):
        optimizer.zero_grad()
        functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def evaluate(net: Net, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    scores = torch.cat([net(some) for some in images.split(1000)])
    return functional.cross_entropy(scores, labels).item(), (scores.argmax(1) == labels).float().mean().item()
