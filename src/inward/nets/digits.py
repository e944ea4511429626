"""A small network for scikit-learn's handwritten digits: 8 x 8 pixels, one channel, ten classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Digits(nn.Module):
    """Three convolutions and a linear layer; 23,946 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.conv3(x))
        return self.fc(x.mean((2, 3)))


def digits() -> Digits:
    """The network with random weights, in eval mode."""
    return Digits().eval()


_told: Any = digits
_told.size, _told.channels = (8, 8), 1
_told.labels = tuple(str(k) for k in range(10))
