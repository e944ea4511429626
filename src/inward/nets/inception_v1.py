"""Inception v1: GoogLeNet as published for Caffe, the network of the classic feature-visualization articles.

Szegedy et al., "Going deeper with convolutions", 2014. Without batch normalization, with local
response normalization, and with max pools whose output size is rounded up. The input is the image
minus the mean (123, 117, 104), times 255: see :func:`inception_v1`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Mixed(nn.Module):
    """Four branches side by side; a ReLU after every convolution.

    ``widths``: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.conv1x1 = nn.Conv2d(channels, one, 1)
        self.conv3x3_reduce = nn.Conv2d(channels, reduce3, 1)
        self.conv3x3 = nn.Conv2d(reduce3, three, 3, padding=1)
        self.conv5x5_reduce = nn.Conv2d(channels, reduce5, 1)
        self.conv5x5 = nn.Conv2d(reduce5, five, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_proj = nn.Conv2d(channels, pooled, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.relu(self.conv1x1(x)),
            self.relu(self.conv3x3(self.relu(self.conv3x3_reduce(x)))),
            self.relu(self.conv5x5(self.relu(self.conv5x5_reduce(x)))),
            self.relu(self.pool_proj(self.pool(x))),
        )
        return torch.cat(branches, 1)


class InceptionV1(nn.Module):
    """1000 logits from images whose mean is subtracted, in units of 1/255; 6,998,552 parameters."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.lrn1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.lrn2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.mixed3a = Mixed(192, (64, 96, 128, 16, 32, 32))
        self.mixed3b = Mixed(256, (128, 128, 192, 32, 96, 64))
        self.mixed4a = Mixed(480, (192, 96, 208, 16, 48, 64))
        self.mixed4b = Mixed(512, (160, 112, 224, 24, 64, 64))
        self.mixed4c = Mixed(512, (128, 128, 256, 24, 64, 64))
        self.mixed4d = Mixed(512, (112, 144, 288, 32, 64, 64))
        self.mixed4e = Mixed(528, (256, 160, 320, 32, 128, 128))
        self.mixed5a = Mixed(832, (256, 160, 320, 32, 128, 128))
        self.mixed5b = Mixed(832, (384, 192, 384, 48, 128, 128))
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lrn1(self.pool(self.relu(self.conv1(x))))
        x = self.lrn2(self.relu(self.conv2(self.relu(self.conv2_reduce(x)))))
        x = self.mixed3b(self.mixed3a(self.pool(x)))
        x = self.mixed4b(self.mixed4a(self.pool(x)))
        x = self.mixed4e(self.mixed4d(self.mixed4c(x)))
        x = self.mixed5b(self.mixed5a(self.pool(x)))
        return self.fc(x.mean((2, 3)))


def inception_v1() -> InceptionV1:
    """Inception v1 with random weights, in eval mode."""
    return InceptionV1().eval()


_told: Any = inception_v1
_told.mean, _told.std = (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3
_told.size, _told.channels = (224, 224), 3
